package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// compareNatural orders strings as Docker's client orders tags and signers:
// numbers within them by value ("0.1.9" before "0.1.10"), and before anything
// else; of equal numbers the one with fewer leading zeros comes first.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		if !isDigit(a[0]) || !isDigit(b[0]) {
			if a[0] == b[0] {
				a, b = a[1:], b[1:]
				continue
			}
			if isDigit(a[0]) != isDigit(b[0]) {
				return cmp.Compare(rank(a[0]), rank(b[0]))
			}
			return cmp.Compare(a[0], b[0])
		}
		var numberA, numberB string
		numberA, a = cutNumber(a)
		numberB, b = cutNumber(b)
		if c := compareNumbers(numberA, numberB); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func rank(c byte) int {
	if isDigit(c) {
		return 0
	}
	return 1
}

func cutNumber(s string) (number, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	return s[:len(s)-len(rest)], rest
}

func compareNumbers(a, b string) int {
	valueA, valueB := strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(
		cmp.Compare(len(valueA), len(valueB)),
		cmp.Compare(valueA, valueB),
		cmp.Compare(len(a), len(b)),
	)
}

// sortedKeys are a map's keys in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
