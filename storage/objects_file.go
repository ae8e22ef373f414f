package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// The file in which objects survive a restart has a line for each: digest, bytes,
// and when it was last used, in seconds since 1970. The last line is the digest of
// those before. It is runningFile while a process keeps it, and endedFile once that
// has ended in order, so that nothing is missing there.
const (
	runningFile = evictionFolder + "/running"
	endedFile   = evictionFolder + "/ended"
)

// saveObjects writes down what is known, and returns the file's size. A failure is
// told: then what was used when is forgotten at the next start, and no more.
func (s *Store) saveObjects(ctx context.Context, path string) (size int) {
	x := s.objects
	x.changed.Store(false)
	all := x.all()
	raw := make([]byte, 0, 96*(len(all)+1))
	for _, o := range all {
		raw = append(append(raw, o.digest...), ' ')
		raw = append(strconv.AppendInt(raw, o.size.Load(), 10), ' ')
		raw = append(strconv.AppendInt(raw, o.used.Load(), 10), '\n')
	}
	raw = append(append(raw, digest.FromBytes(raw)...), '\n')
	// Nothing is evicted for its sake.
	if err := driverError(s.plain.PutContent(ctx, path, raw)); err != nil {
		x.changed.Store(true)
		x.plan.Told(Evicted{Err: fmt.Errorf("writing down what was used when: %w", err)})
	}
	return len(raw)
}

// saveAtEnd is saveObjects when nothing will be stored any more.
func (s *Store) saveAtEnd(ctx context.Context) {
	file := runningFile
	if s.objects.complete.Load() {
		file = endedFile
	}
	s.saveObjects(ctx, file)
}

// loadObjects reads what was known, and tells whether that is all there is.
func (s *Store) loadObjects(ctx context.Context) (complete bool) {
	raw, err := s.readObjects(ctx, endedFile)
	if err == nil {
		// From now on it's no longer complete, whatever happens to this process.
		complete = s.plain.Move(ctx, endedFile, runningFile) == nil
	} else {
		raw, err = s.readObjects(ctx, runningFile)
	}
	if err != nil {
		return false // nothing was written yet, or it can't be read: the walk finds all
	}
	return parseObjects(raw, s.objects.find) && complete
}

// maxObjectsFile is how much is read of what was written down: 2.5 million objects.
const maxObjectsFile = 256 << 20

func (s *Store) readObjects(ctx context.Context, path string) ([]byte, error) {
	info, err := s.plain.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	r, err := s.plain.Reader(ctx, path, 0)
	if err != nil {
		return nil, err
	}
	return readSmall(path, info.Size(), maxObjectsFile, r)
}

// parseObjects calls found with each object, and tells whether there is nothing in
// raw but what saveObjects writes.
func parseObjects(raw []byte, found func(d digest.Digest, size, used int64)) bool {
	body := bytes.TrimSuffix(raw, []byte("\n"))
	body = body[:bytes.LastIndexByte(body, '\n')+1]
	if string(raw[len(body):]) != digest.FromBytes(body).String()+"\n" {
		return false
	}
	for line := range bytes.Lines(body) {
		fields := bytes.Fields(line)
		if len(fields) != 3 {
			return false
		}
		d := digest.Digest(fields[0])
		size, sizeErr := strconv.ParseInt(string(fields[1]), 10, 64)
		used, usedErr := strconv.ParseInt(string(fields[2]), 10, 64)
		if errors.Join(checkDigest(d), sizeErr, usedErr) != nil || size < 0 {
			return false
		}
		found(d, size, used)
	}
	return true
}
