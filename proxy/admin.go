package proxy

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// checkTimeout bounds how long a readiness check may take.
const checkTimeout = 5 * time.Second

// Check tells whether a part works: nil, or a sentence that says why not. It
// returns when its context ends.
type Check func(context.Context) error

// AdminConfig says what operators are told.
type AdminConfig struct {
	// Checks are the parts that have to work for the mirror to be ready, by name.
	Checks map[string]Check
	// Expiry is added to the body of /readyz as "expiry", whatever the status is:
	// what is to expire and when. Nil: nothing is. It encodes as JSON.
	Expiry func() any
	// Configuration is added to the body of /readyz as "configuration", whatever
	// the status is: whether it could be read when it changed last. As Expiry.
	Configuration func() any
	// Images is added to the body of /readyz as "images", whatever the status is:
	// of each image whether its trust source is usable, or why not. As Expiry.
	Images func() any
	// Metrics answers /metrics; nil means that there are none.
	Metrics http.Handler
	// Status answers everything else: the status page. Nil means that there is none.
	Status http.Handler
}

// NewAdmin makes the handler for the admin address. /healthz answers 200 as long
// as the process lives; /readyz runs all checks at once, and answers 200 when
// each of them is well, else 503. Its body tells about each, by name.
func NewAdmin(config AdminConfig) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeStatus(w, http.StatusOK, map[string]bool{"healthy": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		report := runChecks(ctx, config.Checks)
		if config.Expiry != nil {
			report.Expiry = config.Expiry()
		}
		if config.Configuration != nil {
			report.Configuration = config.Configuration()
		}
		if config.Images != nil {
			report.Images = config.Images()
		}
		status := http.StatusOK
		if !report.Ready {
			status = http.StatusServiceUnavailable
		}
		writeStatus(w, status, report)
	})
	if config.Metrics != nil {
		mux.Handle("GET /metrics", config.Metrics)
	}
	if config.Status != nil {
		mux.Handle("GET /", config.Status)
	}
	return onlyByOwnName(mux)
}

type readiness struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"` // "ok", or why not
	Expiry any               `json:"expiry,omitempty"`

	Configuration any `json:"configuration,omitempty"`
	Images        any `json:"images,omitempty"`
}

func runChecks(ctx context.Context, checks map[string]Check) readiness {
	var (
		wait   sync.WaitGroup
		mu     sync.Mutex
		report = readiness{Ready: true, Checks: make(map[string]string)} // guarded by mu
	)
	for name, check := range checks {
		wait.Go(func() {
			err := check(ctx)
			mu.Lock()
			defer mu.Unlock()
			report.Checks[name] = "ok"
			if err != nil {
				report.Checks[name] = err.Error()
				report.Ready = false
			}
		})
	}
	wait.Wait()
	return report
}

func writeStatus(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that has gone away doesn't need the rest.
	_ = json.NewEncoder(w).Encode(document)
}
