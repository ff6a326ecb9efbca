//go:build !linux

package storage

import "os"

func readOnce(Content) {}

func writeSoon(*os.File, int64, int64) {}
