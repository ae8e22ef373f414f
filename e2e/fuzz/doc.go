// Package fuzz holds what trustmirror reads against what others read in the same
// bytes: the reference client of Notary v1, go-containerregistry and containerd.
//
// It is a module of its own, so that neither the product nor the end-to-end tests
// depend on these. Unlike those tests it calls the product's packages, through
// what they export. Fuzz targets that need no such oracle are beside the code that
// they test.
package fuzz
