package lru

import (
	"math/rand"
	"sync"
	"testing"
)

func TestWhatWasNotUsedGoesFirst(t *testing.T) {
	cache := New[string, int](2)
	cache.Put("a", 1)
	cache.Put("b", 2)
	cache.Get("a")
	cache.Put("c", 3)
	if _, ok := cache.Get("b"); ok {
		t.Error("b was not used for the longest time and is still there")
	}
	if value, ok := cache.Get("a"); !ok || value != 1 {
		t.Errorf("a is %d, %t", value, ok)
	}
}

func TestPutAgainReplaces(t *testing.T) {
	cache := New[string, int](1)
	cache.Put("a", 1)
	cache.Put("a", 2)
	if value, _ := cache.Get("a"); value != 2 || cache.Len() != 1 {
		t.Errorf("a is %d of %d entries", value, cache.Len())
	}
}

// A model that is slow and plainly right: keys in the order of their use.
func TestAgreesWithAModel(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	cache := New[int, int](8)
	var used []int
	values := map[int]int{}
	touch := func(key int) {
		for at, it := range used {
			if it == key {
				used = append(used[:at], used[at+1:]...)
				break
			}
		}
		used = append(used, key)
	}
	for step := 0; step < 20000; step++ {
		key := random.Intn(20)
		if random.Intn(2) == 0 {
			values[key] = step
			touch(key)
			cache.Put(key, step)
			if len(used) > 8 {
				delete(values, used[0])
				used = used[1:]
			}
			continue
		}
		want, there := values[key]
		if there {
			touch(key)
		}
		if got, ok := cache.Get(key); ok != there || got != want {
			t.Fatalf("step %d: %d is %d, %t; the model says %d, %t", step, key, got, ok, want, there)
		}
	}
}

func TestManyGoroutinesStayWithinTheBound(t *testing.T) {
	cache := New[int, int](16)
	var all sync.WaitGroup
	for worker := 0; worker < 8; worker++ {
		all.Add(1)
		go func(seed int64) {
			defer all.Done()
			random := rand.New(rand.NewSource(seed))
			for step := 0; step < 2000; step++ {
				key := random.Intn(64)
				cache.Put(key, key)
				if value, ok := cache.Get(key); ok && value != key {
					t.Errorf("%d is %d", key, value)
				}
			}
		}(int64(worker))
	}
	all.Wait()
	if cache.Len() != 16 {
		t.Errorf("%d entries", cache.Len())
	}
}

func BenchmarkGet(b *testing.B) {
	cache := New[int, int](1024)
	for key := 0; key < 1024; key++ {
		cache.Put(key, key)
	}
	for step := 0; step < b.N; step++ {
		cache.Get(step % 1024)
	}
}
