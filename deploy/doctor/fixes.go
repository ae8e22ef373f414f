package doctor

import "fmt"

// fixFor is what to do about a finding.
func (c *checker) fixFor(client string, f Finding) string {
	command := c.command(client)
	switch f.Trap {
	case Unreachable:
		return "Start the mirror, or let this node reach it, and run doctor again."
	case NotReady:
		return "Ask the mirror's /readyz at its admin address what it waits for, and run doctor again."
	case Unauthorized:
		return "Give doctor the mirror with --mirror, and a user of it with --user and --password-file."
	case NotAsked:
		return "Name a repository that there can be with --image."
	case CAMissing, CAUntrusted:
		return fmt.Sprintf("Run `%s` with the CA of the mirror's certificate in --ca.", command)
	case ConfigPathUnset, ConfigPathList, ConfigPathReplaced:
		return fmt.Sprintf("Set config_path to /etc/containerd/certs.d alone, in the table that `%s` prints or writes, and restart containerd.", command)
	case ConfigVersion:
		return fmt.Sprintf("Put version = 2 above everything else, as `%s` prints or writes it, and restart containerd.", command)
	case LegacyMirrors:
		return fmt.Sprintf("Remove mirrors, set config_path as `%s` prints or writes it, and restart containerd.", command)
	case MalformedConfig:
		return fmt.Sprintf("Correct the file, restart %s, and run doctor again; `%s` prints or writes what it has to say.", client, command)
	case OriginHost, NotBlocked, DigestOnly, BlockedElsewhere:
		if client == Podman || client == CRIO {
			return fmt.Sprintf("Remove this table, and run `%s`, which writes one that blocks the registry itself.", command)
		}
	case EmbeddedRegistry:
		return fmt.Sprintf("Remove embedded-registry, and restart %s; `%s` writes what else it needs.", client, command)
	case ConfigsEndpoint:
		return fmt.Sprintf("Remove the registry from configs, and restart %s; `%s` prints or writes what configs need.", client, command)
	case NotGenerated:
		return fmt.Sprintf("Restart %s after `%s`, and run doctor again.", client, command)
	case GeneratedServer:
		return fmt.Sprintf("Run `%s` and let the mirror answer at the registries' names, or load the egress rules that `%s` writes.", c.command("docker-transparent"), command)
	}
	return fmt.Sprintf("Run `%s`, which writes or prints what fails closed.", command)
}
