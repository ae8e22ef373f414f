// Package monitoring has a real Prometheus scrape the built trustmirror: for the alert
// rules and the dashboard that come with it.
package monitoring
