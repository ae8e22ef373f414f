package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// maxHealth is how much of an answer is read and repeated.
const maxHealth = 4 << 10

// askAgain is the pause before a mirror that isn't well is asked again.
const askAgain = 200 * time.Millisecond

// healthOptions are healthcheck's flags.
type healthOptions struct {
	config  string
	admin   string
	ready   bool
	timeout time.Duration // for one answer
	wait    time.Duration // for a good one
}

func newHealthcheckCommand() *cobra.Command {
	o := &healthOptions{}
	cmd := &cobra.Command{
		Use:   "healthcheck [-c FILE | --admin URL]",
		Short: "Ask a running mirror whether it is well",
		Long: `Healthcheck asks a mirror that runs on this machine, at its admin address, for
/healthz (does it live?) or, with --ready, for /readyz (can it serve?). It is for
what can run a program but can't ask by itself: Docker's HEALTHCHECK, compose,
systemd, and probes of Kubernetes that run a command.

Without -c and --admin it asks at the default admin address. Of the file only
admin.address is read: a mistake elsewhere, which a running mirror puts up with,
doesn't make it unwell. Exit status 0 if it is well, 1 if it isn't or can't be
asked, with the reason on stderr.`,
		Example: `  trustmirror healthcheck
  trustmirror healthcheck --ready -c config.yaml
  trustmirror healthcheck --admin http://127.0.0.1:5001`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := awaitHealth(cmd.Context(), o); err != nil {
				return &statusError{statusRefused, err}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "configuration file that says the admin address")
	cmd.Flags().StringVar(&o.admin, "admin", "", `URL of the admin address (default "http://`+defaultAdmin+`")`)
	cmd.Flags().BoolVar(&o.ready, "ready", false, "ask whether it can serve, instead of whether it lives")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 5*time.Second, "how long the answer may take")
	cmd.Flags().DurationVar(&o.wait, "wait", 0, "how long to go on asking until it is well")
	cmd.MarkFlagsMutuallyExclusive("config", "admin")
	return cmd
}

// awaitHealth asks until the mirror is well or nobody wants to wait any longer.
func awaitHealth(ctx context.Context, o *healthOptions) error {
	patience := time.After(o.wait)
	for {
		err := checkHealth(ctx, o)
		if err == nil || o.wait == 0 {
			return err
		}
		select {
		case <-patience:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(askAgain):
		}
	}
}

// checkHealth returns nil if the mirror says that it is well.
func checkHealth(ctx context.Context, o *healthOptions) error {
	base, err := o.base()
	if err != nil {
		return err
	}
	address := base.JoinPath("healthz").String()
	if o.ready {
		address = base.JoinPath("readyz").String()
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	// Neither a proxy nor a redirect: the mirror is on this machine and answers itself.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s gave no answer within %s; see the mirror's log, or allow more with --timeout", address, o.timeout)
	}
	if err != nil {
		var asked *url.Error // which repeats the address
		if errors.As(err, &asked) {
			err = asked.Err
		}
		return fmt.Errorf("%s can't be asked (%w); start the mirror, or name its admin.address with -c or --admin", address, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxHealth))
	if err != nil {
		return fmt.Errorf("%s answered %s, and then broke off: %w", address, response.Status, err)
	}
	return fmt.Errorf("%s answered %s: %s", address, response.Status, bytes.TrimSpace(body))
}

// base is the URL of the admin address.
func (o *healthOptions) base() (*url.URL, error) {
	if o.config == "" {
		base, err := url.Parse(cmp.Or(o.admin, "http://"+defaultAdmin))
		if err != nil || base.Scheme != "http" || base.Host == "" {
			return nil, fmt.Errorf("--admin %s is not the URL of an admin address; write http://%s", o.admin, defaultAdmin)
		}
		return base, nil
	}
	address, err := adminAddress(o.config)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" || port == "0" {
		return nil, fmt.Errorf("%s: admin.address is %q; write host:port, as in %s", o.config, address, defaultAdmin)
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(reachable(host), port)}, nil
}

// adminAddress reads nothing but admin.address from a configuration file.
func adminAddress(file string) (string, error) {
	text, err := readFile(file)
	if err != nil {
		return "", err
	}
	var c struct {
		Admin struct {
			Address string `yaml:"address"`
		} `yaml:"admin"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return "", fmt.Errorf("%s: admin.address can't be read (%w); see trustmirror config check %s", file, err, file)
	}
	return cmp.Or(c.Admin.Address, defaultAdmin), nil
}

// reachable is where a server that listens on host can be asked: one that
// listens on every interface, on loopback.
func reachable(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "":
		return "localhost"
	case err == nil && ip.IsUnspecified() && ip.Is4():
		return "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		return "::1"
	}
	return host
}
