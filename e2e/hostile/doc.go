// Package hostile tests the built program against registries, a trust service
// and clients that are against it, against being killed, and against disks that are
// full, read-only or damaged. What lies is HTTP servers in the test's own process;
// nothing needs other programs, and nothing root but the mounting of a small disk.
package hostile
