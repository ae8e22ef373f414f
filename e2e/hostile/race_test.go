//go:build race

package hostile

import "os"

// raced: `go test -race` builds the program with the race detector too, and a race
// ends it. Memory isn't held against its bound then: the detector takes several
// times as much.
const raced = true

func raceProgram() error {
	if err := os.Setenv("GOFLAGS", os.Getenv("GOFLAGS")+" -race"); err != nil {
		return err
	}
	return os.Setenv("GORACE", "halt_on_error=1")
}
