//go:build !clockoffset

package main

const clockMovable = false
