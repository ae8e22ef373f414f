//go:build !race

package hostile

const raced = false

func raceProgram() error { return nil }
