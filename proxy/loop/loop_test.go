package loop_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/proxy/loop"
)

func TestCheckAndVia(t *testing.T) {
	self, a, b := loop.NewID(), loop.NewID(), loop.NewID()
	var many []string
	for range loop.MaxHops {
		many = append(many, loop.NewID())
	}
	for name, test := range map[string]struct {
		values []string
		err    error
		via    string
	}{
		"of a client":       {nil, nil, self},
		"one mirror":        {[]string{a}, nil, a + ", " + self},
		"two":               {[]string{a + ", " + b}, nil, a + ", " + b + ", " + self},
		"two fields":        {[]string{a, b}, nil, a + ", " + b + ", " + self},
		"own":               {[]string{self}, loop.ErrLoop, ""},
		"own after other":   {[]string{a + "," + self + "," + b}, loop.ErrLoop, ""},
		"own, a field":      {[]string{a, self}, loop.ErrLoop, ""},
		"just not too many": {many[1:], nil, strings.Join(many[1:], ", ") + ", " + self},
		"too many":          {many, loop.ErrTooFar, ""},
		"own among many":    {append([]string{self}, many...), loop.ErrLoop, ""},
		"empty":             {[]string{""}, loop.ErrMalformed, ""},
		"another shape":     {[]string{a + ", x"}, loop.ErrMalformed, ""},
		"a line":            {[]string{a[1:] + "\n"}, loop.ErrMalformed, ""},
	} {
		ctx, err := loop.Check(t.Context(), self, test.values)
		if !errors.Is(err, test.err) || err == nil && loop.Via(ctx, self) != test.via {
			t.Errorf("%s: %v, %q", name, err, loop.Via(ctx, self))
		}
	}
}

func TestIDsDiffer(t *testing.T) {
	one, another := loop.NewID(), loop.NewID()
	if one == another {
		t.Error("two mirrors have one ID")
	}
}
