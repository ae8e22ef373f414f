package doctor

import (
	"context"
	"fmt"
)

const buildkitConfig = "/etc/buildkit/buildkitd.toml"

// buildkit judges a standalone BuildKit, which nothing in its configuration closes.
func (c *checker) buildkit() func(context.Context, string) Finding {
	text, err := c.read(buildkitConfig)
	if err != nil && !isNotExist(err) {
		return always(unreadable(buildkitConfig, err))
	}
	d, line, malformed := parseTOML(text)
	return func(_ context.Context, registry string) Finding {
		if malformed == nil {
			line = d.line("registry", registry)
		}
		return Finding{State: Open, Trap: StandaloneBuildKit, origin: true, File: buildkitConfig, Line: line,
			Sentence: fmt.Sprintf("A standalone BuildKit asks %s itself after every refusal, whatever its mirrors are.", registry),
			Fix:      fmt.Sprintf("Block its way to the registries, as `trustmirror client buildkit -c FILE --mirror %s` prints, or build with the BuildKit in a dockerd that has the containerd image store.", c.mirrorOr())}
	}
}
