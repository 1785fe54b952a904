// Package lru keeps the values that were used last.
package lru

import (
	"container/list"
	"sync"
)

// Cache holds up to a number of entries; the one that was not used for the longest time goes first.
type Cache[K comparable, V any] struct {
	entriesMax int

	mutex   sync.Mutex
	entries map[K]*list.Element
	// Front is what was used last.
	order *list.List
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// New makes a cache of at most entriesMax entries, which must be at least one.
func New[K comparable, V any](entriesMax int) *Cache[K, V] {
	if entriesMax < 1 {
		panic("lru: a cache needs room for an entry")
	}
	return &Cache[K, V]{entriesMax: entriesMax, entries: make(map[K]*list.Element), order: list.New()}
}

// Get returns the value of a key, and whether there is one.
func (cache *Cache[K, V]) Get(key K) (V, bool) {
	cache.mutex.Lock()
	defer cache.mutex.Unlock()
	found, ok := cache.entries[key]
	if !ok {
		var none V
		return none, false
	}
	cache.order.MoveToFront(found)
	return found.Value.(entry[K, V]).value, true
}

// Put sets the value of a key.
func (cache *Cache[K, V]) Put(key K, value V) {
	cache.mutex.Lock()
	defer cache.mutex.Unlock()
	if found, ok := cache.entries[key]; ok {
		found.Value = entry[K, V]{key, value}
		cache.order.MoveToFront(found)
		return
	}
	if cache.order.Len() == cache.entriesMax {
		oldest := cache.order.Remove(cache.order.Back()).(entry[K, V])
		delete(cache.entries, oldest.key)
	}
	cache.entries[key] = cache.order.PushFront(entry[K, V]{key, value})
}

// Len says how many entries there are.
func (cache *Cache[K, V]) Len() int {
	cache.mutex.Lock()
	defer cache.mutex.Unlock()
	return cache.order.Len()
}
