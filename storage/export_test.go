package storage

import "context"

// EvictOnce does what EvictAlways does from a start to an end, at once: it reads what
// was written down, looks at what there is if need be, and evicts.
func (s *Store) EvictOnce(ctx context.Context) {
	s.objects.complete.Store(s.loadObjects(ctx))
	if !s.objects.complete.Load() {
		s.walkObjects(ctx, 0)
	}
	s.evict(ctx)
	s.saveAtEnd(ctx)
}
