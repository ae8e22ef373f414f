package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

const (
	dockerConfig = "/etc/docker/daemon.json"
	dockerCerts  = "/etc/docker/certs.d"
)

// Docker's image stores, as Options and daemon.json name them.
const (
	storeClassic    = "classic"
	storeContainerd = "containerd"
)

// snapshotter is the feature that turns the containerd image store on.
const snapshotter = "containerd-snapshotter"

// daemonConfig is what doctor reads of daemon.json.
type daemonConfig struct {
	Mirrors  []string        `json:"registry-mirrors"`
	Features map[string]bool `json:"features"`
}

// docker judges dockerd. Its image stores behave differently: the classic one asks
// the registry itself after every refusal, whatever is configured; the containerd
// one reads hosts.toml.
func (c *checker) docker() func(context.Context, string) Finding {
	text, err := c.read(dockerConfig)
	if err != nil && !isNotExist(err) {
		return always(unreadable(dockerConfig, err))
	}
	var config daemonConfig
	if len(text) > 0 {
		if err := json.Unmarshal(text, &config); err != nil {
			return always(Finding{State: Unknown, Trap: MalformedConfig, File: dockerConfig, Line: jsonErrorLine(text, err),
				Sentence: fmt.Sprintf("dockerd doesn't start with this file (%s), and what runs may have been configured otherwise.", jsonError(err))})
		}
	}
	d := &dockerd{checker: c, config: config, mirrorsLine: keyLine(text, "registry-mirrors"), featuresLine: keyLine(text, "features")}
	store := c.DockerStore
	if on, isSet := config.Features[snapshotter]; store == "" && isSet && !on {
		store = storeClassic // where it is on, an old dockerd takes no notice
	}
	switch store {
	case storeClassic:
		return d.classic
	case storeContainerd:
		return d.containerdStore
	}
	return d.either
}

func always(f Finding) func(context.Context, string) Finding {
	return func(context.Context, string) Finding { return f }
}

type dockerd struct {
	*checker
	config       daemonConfig
	mirrorsLine  int
	featuresLine int
}

// classic judges the classic image store, which only transparent mode makes fail closed.
func (d *dockerd) classic(_ context.Context, registry string) Finding {
	f := Finding{State: Open, Trap: ClassicStore, origin: true, File: dockerConfig,
		Sentence: fmt.Sprintf("dockerd with the classic image store asks %s itself, and has no setting against that.", registry)}
	if len(d.config.Mirrors) > 0 && registry == dockerHub {
		f.Trap, f.Line = RegistryMirrors, d.mirrorsLine
		f.Sentence = "registry-mirrors always ends with Docker Hub itself: after every refusal the pull starts again there, by tag and unverified."
	}
	f.Fix = fmt.Sprintf("Run `%s`, so that the registries' own names lead to the mirror, or block the way to them; no setting of dockerd does it.", d.command("docker-transparent"))
	return f
}

// containerdStore judges the containerd image store.
func (d *dockerd) containerdStore(ctx context.Context, registry string) Finding {
	// Docker 28 has the hosts.toml code of containerd 1.7, so the worst version counts.
	f := hostsReader{checker: d.checker}.judge(ctx, []string{dockerCerts}, registry)
	if f.Trap == NotConfigured && len(d.config.Mirrors) > 0 && registry == dockerHub {
		return Finding{State: Open, Trap: RegistryMirrors, origin: true, File: dockerConfig, Line: d.mirrorsLine,
			Sentence: "registry-mirrors alone always ends with Docker Hub itself; only a hosts.toml keeps it out."}
	}
	return f
}

// either judges where it isn't known which image store there is.
func (d *dockerd) either(ctx context.Context, registry string) Finding {
	classic := d.throughNames(ctx, d.classic(ctx, registry), Docker, registry)
	store := d.containerdStore(ctx, registry)
	if classic.State == store.State || classic.State == Closed || store.State == Open {
		return classic // where it is open, for the reason that holds for any store
	}
	hint := ""
	if d.config.Features[snapshotter] {
		hint = ", since an old dockerd, as 20.10, ignores the feature " + snapshotter
	}
	return Finding{State: Unknown, Trap: DockerStoreUnknown, File: dockerConfig, Line: d.featuresLine,
		Sentence: "It depends on dockerd's image store, which can't be told from here" + hint + ": the classic one asks the registry itself, the containerd one is " + string(store.State) + ". " + store.Sentence,
		Fix: fmt.Sprintf("Say --docker-store containerd if `docker info` shows driver-type io.containerd.snapshotter.v1; else run `%s` with a Docker that has the feature containerd-snapshotter.",
			d.command(Docker))}
}

// keyLine is the line of a key of a JSON object, 0 if it isn't there.
func keyLine(text []byte, key string) int {
	decoder := json.NewDecoder(bytes.NewReader(text))
	depth, isKey := 0, false
	for {
		token, err := decoder.Token()
		if err != nil {
			return 0
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			isKey = depth == 1
			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
			isKey = depth == 1
			continue
		}
		if depth != 1 {
			continue
		}
		if isKey && token == key {
			return lineAt(text, decoder.InputOffset())
		}
		isKey = !isKey
	}
}

// jsonError says what is wrong without Go's types.
func jsonError(err error) string {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Sprintf("%s can't be a JSON %s", kind.Field, kind.Value)
	}
	return err.Error()
}

func jsonErrorLine(text []byte, err error) int {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return lineAt(text, syntax.Offset)
	case errors.As(err, &kind):
		return lineAt(text, kind.Offset)
	}
	return 1
}

func lineAt(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(offset, int64(len(text)))], []byte("\n"))
}
