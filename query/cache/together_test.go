package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// reads counts what a Together reads; each read waits for its turn.
type reads struct {
	turn chan struct{}
	mu   sync.Mutex
	keys [][]int
}

func (r *reads) read(ctx context.Context, keys []int) (map[int]string, error) {
	r.mu.Lock()
	r.keys = append(r.keys, slices.Clone(keys))
	r.mu.Unlock()
	select {
	case <-r.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	values := map[int]string{}
	for _, key := range keys {
		switch {
		case key == 13:
			return nil, errors.New("thirteen")
		case key == 1000:
			panic("a thousand")
		case key > 0:
			values[key] = fmt.Sprint(key)
		}
	}
	return values, nil
}

// ask asks for keys in the background, each once the one before it waits, and gives what each got.
func ask(t *testing.T, together *Together[int, string], keys ...int) (got []string, errs []error, wait func()) {
	got, errs = make([]string, len(keys)), make([]error, len(keys))
	var askers sync.WaitGroup
	for i, key := range keys {
		askers.Go(func() { got[i], errs[i] = together.Get(t.Context(), key) })
		synctest.Wait()
	}
	return got, errs, askers.Wait
}

func TestWhoAsksDuringAReadSharesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reads{turn: make(chan struct{})}
		c := newTestCache(t, nil)
		got, errs, wait := ask(t, NewTogether(c, r.read), 1, 2, 3, 2, -4)
		close(r.turn)
		wait()
		if want := []string{"1", "2", "3", "2", ""}; !slices.Equal(got, want) || errors.Join(errs...) != nil {
			t.Errorf("got %q and %v, want %q", got, errors.Join(errs...), want)
		}
		if want := [][]int{{1}, {2, 3, -4}}; !slices.EqualFunc(r.keys, want, slices.Equal) {
			t.Errorf("read %v, want %v", r.keys, want)
		}
		c.Close()
	})
}

func TestAReadThatFailsOrPanicsFailsItsAskersAndNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reads{turn: make(chan struct{})}
		c := newTestCache(t, nil)
		together := NewTogether(c, r.read)
		_, errs, wait := ask(t, together, 1, 13, 14)
		close(r.turn)
		wait()
		if errs[0] != nil || errs[1] == nil || errs[2] == nil {
			t.Errorf("got %v: want the second and third to fail together", errs)
		}
		if _, err := together.Get(t.Context(), 1000); err == nil {
			t.Error("a read that panicked gave no error")
		}
		if value, err := together.Get(t.Context(), 15); value != "15" || err != nil {
			t.Errorf("the next read gave %q and %v", value, err)
		}
		c.Close()
	})
}

func TestWhoLeavesAReadLeavesItToTheOthersAndClosingEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reads{turn: make(chan struct{})}
		c := newTestCache(t, nil)
		together := NewTogether(c, r.read)
		impatient, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := together.Get(impatient, 1)
			left <- err
		}()
		synctest.Wait()
		_, errs, wait := ask(t, together, 2)
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		c.Close()
		wait()
		if !errors.Is(errs[0], context.Canceled) {
			t.Errorf("closing gave %v", errs[0])
		}
	})
}
