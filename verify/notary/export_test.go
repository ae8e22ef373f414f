package notary

// ParseRoot reads a root that is signed by itself, whoever's it is.
func ParseRoot(gun string, raw []byte) (signed []byte, version int64, err error) {
	r, err := openRoot(gun, raw)
	if err != nil {
		return nil, 0, err
	}
	return r.signed, r.version, nil
}

// OpenTargets reads a file of a role, whoever signed it.
func OpenTargets(role string, raw []byte, key *Key, pins *Pins) (signed []byte, version int64, names int, err error) {
	t, err := openTargets(&authority{role: role, keys: []*Key{key}, threshold: 1}, raw, pins)
	if err != nil {
		return nil, 0, 0, err
	}
	return t.signed, t.version, len(t.targets), nil
}

// ParseEnvelope is the first look at any file.
func ParseEnvelope(raw []byte) (signed []byte, signatures int, err error) {
	e, err := parseEnvelope("any", raw, maxTargetsSize)
	if err != nil {
		return nil, 0, err
	}
	return e.signed, len(e.signatures), nil
}
