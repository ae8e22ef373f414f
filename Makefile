# The one way to build, test and run trustmirror. `make help` lists the targets.

FUZZTIME ?= 3s

# tool prints the folder of a tool that is built from a Go module, once, into a
# cache outside the clone.
tool = $$(cd e2e && go run ./tools/install $(1))

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z0-9]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

.PHONY: build
build: ## build bin/trustmirror
	CGO_ENABLED=0 go build -trimpath -o bin/trustmirror ./cmd/trustmirror

.PHONY: run
run: build ## serve Webdis from the real Docker Hub and ECR, as config.example.yaml says
	bin/trustmirror serve -c config.example.yaml

.PHONY: demo
demo: ## see it work, without root and without a network; KEEP=1 leaves it running
	@cd e2e && CGO_ENABLED=0 KEEP=$(KEEP) go run ./demo

.PHONY: test
test: ## unit and integration tests, with the race detector
	@[ -d ../shared/vectors ] || echo "SKIPPED: the tests against real metadata, since ../shared/vectors isn't there"
	go test -race ./...

.PHONY: e2e
e2e: ## the same with real daemons; needs root, and installs Debian packages
	e2e/install.sh
	cd e2e && go test -v -count=1 -timeout=30m ./...

.PHONY: screenshots
screenshots: ## make docs/images anew; needs chromium
	cd e2e && CGO_ENABLED=0 go run ./browser/screenshots ../docs/images

.PHONY: bench
bench: ## beside distribution's proxy and nginx, as ratios; BENCH="-run warm -json FILE" chooses
	cd e2e && CGO_ENABLED=0 go run ./bench $(BENCH)

.PHONY: microbench
microbench: ## Go's benchmarks, each once: memory and work, compared within one run
	go test -run='^$$' -bench=. -benchtime=1x ./...

# A fuzz run that ends at its deadline in the middle of an input says "context
# deadline exceeded" and names no input: that is Go's, and no finding. Inputs are
# not minimized, which would use up the time.
.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (3s), those of e2e/fuzz too
	@[ -d ../shared/vectors ] || echo "SKIPPED: seeds from real documents, since ../shared/vectors isn't there"
	cd e2e/fuzz && go test ./...
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include=*_test.go . | sed 's/:func / /' | sort | \
	while read -r file target; do \
	  echo "fuzz: $$target in $$(dirname "$$file")"; \
	  (cd "$$(dirname "$$file")" && go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=1x .) > "$$log" 2>&1 && continue; \
	  if grep -q 'context deadline exceeded' "$$log" && ! grep -q 'Failing input' "$$log"; then \
	    echo "fuzz: $$target reached the deadline in the middle of an input, without a finding"; \
	  else cat "$$log"; exit 1; fi; \
	done

.PHONY: lint
# govulncheck ends with 3 where it found something, and otherwise where it can't
# tell, as without a way to its database: that is said, and isn't a failure.
lint: ## gofmt, go vet, golangci-lint and govulncheck, for all modules
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:" $$unformatted; exit 1; fi
	go vet ./...
	cd e2e && go vet ./...
	cd e2e/fuzz && go vet ./...
	lint=$(call tool,golangci-lint)/golangci-lint && $$lint run ./... && cd e2e && $$lint run ./... && cd fuzz && $$lint run ./...
	@vuln=$(call tool,govulncheck)/govulncheck || exit 1; \
	for module in . e2e; do \
	  $$vuln -C $$module ./...; status=$$?; \
	  case $$status in \
	  0) ;; \
	  3) exit 1;; \
	  *) echo "NOT CHECKED for known vulnerabilities: module $$module (govulncheck ended with $$status)";; \
	  esac; \
	done
