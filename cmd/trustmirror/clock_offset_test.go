//go:build clockoffset

package main

const clockMovable = true
