//go:build !linux

package storage

func (l *local) openFile(name string) (Content, error) { return l.openThroughRoot(name) }

func (l *local) statFile(name string) (int64, error) { return l.statThroughRoot(name) }
