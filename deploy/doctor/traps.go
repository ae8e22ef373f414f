package doctor

// Trap is a stable code for what is wrong with a configuration.
type Trap string

// Traps of hosts.toml and the folders it is in, which containerd reads, and also
// k3s, RKE2 and a dockerd with the containerd image store.
const (
	NoServer          Trap = "no_server"          // no server line: the origin is appended
	NoHostTable       Trap = "no_host_table"      // server without a [host] table: before 2.0 the file is ignored
	MalformedTOML     Trap = "malformed_toml"     // not TOML of the expected types: the file is ignored
	UnknownCapability Trap = "unknown_capability" // one that the version doesn't know: the file is ignored
	BadDialTimeout    Trap = "bad_dial_timeout"   // no duration: from 2.0 the file is ignored
	UnknownField      Trap = "unknown_field"      // a field that doctor doesn't know
	EmptyHostsFile    Trap = "empty_hosts_file"   // as if it weren't there
	NoHostsFile       Trap = "no_hosts_file"      // the registry's folder has none, and shadows _default
	NotConfigured     Trap = "not_configured"     // nothing is said about the registry
	OriginHost        Trap = "origin_host"        // the registry itself is among those to be asked
	NotTheMirror      Trap = "not_the_mirror"     // another host is among those to be asked
	CAMissing         Trap = "ca_missing"         // no such file, or none with a certificate
	CAUntrusted       Trap = "ca_untrusted"       // the mirror's certificate isn't trusted
	Unreadable        Trap = "unreadable"         // a file can't be read
)

// Traps of containerd's config.toml.
const (
	ConfigPathUnset    Trap = "config_path_unset"    // hosts.toml files aren't read
	ConfigPathList     Trap = "config_path_list"     // several folders, which from 2.1 are taken for one
	ConfigPathReplaced Trap = "config_path_replaced" // an imported file replaces the section
	ConfigVersion      Trap = "config_version"       // the section is of another version than the file, or than containerd knows
	LegacyMirrors      Trap = "legacy_mirrors"       // the CRI plugin's mirrors always append the origin
	MalformedConfig    Trap = "malformed_config"     // the program can't read its configuration
)

// Traps of Docker, and of leading the registries' names to the mirror.
const (
	RegistryMirrors        Trap = "registry_mirrors"        // registry-mirrors always append Docker Hub
	ClassicStore           Trap = "classic_store"           // nothing makes it fail closed but the registries' names
	DockerStoreUnknown     Trap = "docker_store_unknown"    // the image stores differ
	TransparentElsewhere   Trap = "transparent_elsewhere"   // the name leads to something that isn't the mirror
	TransparentUnreachable Trap = "transparent_unreachable" // nobody answers where the name leads to
	StandaloneBuildKit     Trap = "standalone_buildkit"     // always appends the origin
)

// Traps of registries.conf.
const (
	NotBlocked       Trap = "not_blocked"       // the origin is asked after the mirrors
	DigestOnly       Trap = "digest_only"       // the mirror isn't asked for tags
	BlockedElsewhere Trap = "blocked_elsewhere" // blocked doesn't cover the location
)

// Traps of k3s and RKE2.
const (
	DefaultEndpoint  Trap = "default_endpoint"  // the origin is appended to the endpoints
	ConfigsEndpoint  Trap = "configs_endpoint"  // configs for the registry keep its default endpoint
	EmbeddedRegistry Trap = "embedded_registry" // other nodes are asked
	NotGenerated     Trap = "not_generated"     // hosts.toml isn't written yet
	GeneratedServer  Trap = "generated_server"  // written without a server line: versions differ
)

// Traps of the mirror itself.
const (
	NotAsked     Trap = "not_asked"    // nobody asked it
	Unreachable  Trap = "unreachable"  // it doesn't answer
	Unauthorized Trap = "unauthorized" // it wants a name and a password
	NotReady     Trap = "not_ready"    // it answers, but can't tell yet
	ServesAll    Trap = "serves_all"   // it served what must be refused
	WrongName    Trap = "wrong_name"   // it understood another repository than was meant
)
