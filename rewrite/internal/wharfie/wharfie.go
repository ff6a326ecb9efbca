// Package wharfie holds the house to the real wharfie, the puller that RKE2 starts itself
// with. Its tests compare rewrite.Wharfie with the module's own answers; the command pull
// fetches an image the way that RKE2's bootstrap does, for tests of the whole.
//
// The rules themselves live in package rewrite. Nothing of the house imports this module.
package wharfie
