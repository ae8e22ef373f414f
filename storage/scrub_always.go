package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ScrubPlan says how storage is scrubbed in the background.
type ScrubPlan struct {
	// Every is how long it takes to come round: every Every/ScrubParts one part is
	// scrubbed. At least ScrubParts nanoseconds.
	Every time.Duration
	// BytesPerSecond bounds how fast is read; 0: as fast as it goes.
	BytesPerSecond int64
	// Told is told of each part that was scrubbed, and of what Scrub returned. Never nil.
	Told func(part int, found Scrubbed, err error)
}

// scrubPlace is which part was scrubbed last, and when that began.
type scrubPlace struct {
	Part int       `json:"part"`
	At   time.Time `json:"at"`
}

// scrubRecord is where the place is kept.
const scrubRecord = scrubFolder + "/place"

// ScrubAlways scrubs part by part until ctx ends. It keeps its place in the store,
// so that it goes on where it was after a restart, and where several processes
// share the store they take turns. Time when nobody ran it isn't made up for.
func (s *Store) ScrubAlways(ctx context.Context, plan ScrubPlan) {
	turn := plan.Every / ScrubParts
	last := scrubPlace{Part: ScrubParts - 1}
	for ctx.Err() == nil {
		// What seems to come is of a clock that was set back since; it must not stop this.
		if stored, err := s.scrubPlace(ctx); err == nil && stored.At.After(last.At) && !stored.At.After(time.Now()) {
			last = stored
		}
		if since := time.Since(last.At); since >= 0 && since < turn {
			sleep(ctx, turn-since)
			continue // somebody else may have done it meanwhile
		}
		last = scrubPlace{Part: (last.Part + 1) % ScrubParts, At: time.Now().UTC()}
		err := s.putScrubPlace(ctx, last)
		found, scrubErr := s.Scrub(ctx, last.Part, plan.BytesPerSecond)
		if ctx.Err() == nil {
			plan.Told(last.Part, found, errors.Join(scrubErr, err))
		}
	}
}

func (s *Store) scrubPlace(ctx context.Context) (scrubPlace, error) {
	var place scrubPlace
	raw, err := s.getRecord(ctx, scrubRecord)
	if err == nil {
		err = json.Unmarshal(raw, &place)
	}
	if err == nil && (place.Part < 0 || place.Part >= ScrubParts) {
		err = errUnreadable
	}
	return place, err
}

func (s *Store) putScrubPlace(ctx context.Context, place scrubPlace) error {
	raw, err := json.Marshal(place)
	if err == nil {
		err = s.putRecord(ctx, scrubRecord, raw)
	}
	if err != nil {
		return fmt.Errorf("the place where scrubbing has got to can't be stored: %w", err)
	}
	return nil
}
