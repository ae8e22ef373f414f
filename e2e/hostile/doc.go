// Package hostile tests the built program against registries, a trust service
// and clients that are against it, and against being killed. It needs neither
// root nor other programs: what lies is HTTP servers in the test's own process.
package hostile
