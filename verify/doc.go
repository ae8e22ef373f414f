// Package verify decides what may be served. It holds the rules for documents,
// copies and layers, and the Gate that applies them.
package verify
