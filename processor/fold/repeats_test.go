package fold

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/schemas/event"
)

// asked is a request with a key, kept for a minute, that was looked for among so many taken keys.
func asked(key, body string, checked uint64) *event.Idempotency {
	return &event.Idempotency{Key: []byte(key), Body: []byte(body), KeepSeconds: 60, Checked: checked}
}

// take has a request decided whose outcome, when it is new, is a number.
func take(r *Repeats[int], key *event.Idempotency, now int64, outcome int) (int, Verdict) {
	verdict := New
	answer := func(v Verdict, first int) int { verdict = v; return first }
	return r.Once(key, now, answer, func() int { return outcome }), verdict
}

func TestAKeyIsAnsweredByItsFirstRequestUntilItsTimeIsOver(t *testing.T) {
	r := &Repeats[int]{Limit: 10}
	for _, step := range []struct {
		name    string
		key     *event.Idempotency
		now     int64
		outcome int
		verdict Verdict
	}{
		{"first", asked("k", "b", 0), 0, 1, New},
		{"repeat", asked("k", "b", 0), 59_999, 1, Repeated},
		{"another body", asked("k", "c", 0), 59_999, 0, Reused},
		{"another key", asked("l", "b", 0), 59_999, 4, New},
		{"no key", nil, 59_999, 5, New},
		{"after its time", asked("k", "c", 0), 60_000, 6, New},
	} {
		if outcome, verdict := take(r, step.key, step.now, len(step.name)); verdict != step.verdict ||
			verdict == New && outcome != len(step.name) {
			t.Errorf("%s: outcome %d, verdict %d; want verdict %d", step.name, outcome, verdict, step.verdict)
		}
	}
}

func TestWhatMayBeAForgottenKeyIsUncheckedUntilItWasLookedForBehindTheForgottenOnes(t *testing.T) {
	r := &Repeats[int]{Limit: 2}
	for n := range 4 {
		if _, verdict := take(r, asked(fmt.Sprint(n), "b", 0), int64(n), n); n < 3 && verdict != New || n == 3 && verdict != Unchecked {
			t.Fatalf("key %d: verdict %d", n, verdict)
		}
	}
	if r.Taken != 3 || r.Forgotten != 1 || len(r.Known) != 2 {
		t.Fatalf("%d keys taken, %d forgotten, %d known; want 3, 1 and 2: an unchecked request takes no key", r.Taken, r.Forgotten, len(r.Known))
	}
	if _, verdict := take(r, asked("0", "b", 0), 3, 9); verdict != Unchecked {
		t.Errorf("the forgotten key: verdict %d, want unchecked", verdict)
	}
	if outcome, verdict := take(r, asked("2", "b", 0), 3, 9); verdict != Repeated || outcome != 2 {
		t.Errorf("a key that is remembered: %d, verdict %d; want the first answer, checked or not", outcome, verdict)
	}
	if _, verdict := take(r, asked("new", "b", 1), 3, 9); verdict != New {
		t.Errorf("a key that was looked for: verdict %d, want new", verdict)
	}
	if _, verdict := take(r, asked("newer", "b", 1), 3, 9); verdict != Unchecked {
		t.Errorf("a key that was looked for before another was forgotten: verdict %d, want unchecked", verdict)
	}
}

func TestForgottenKeysMatterOnlyUntilTheirTimeIsOver(t *testing.T) {
	r := &Repeats[int]{Limit: 1}
	take(r, asked("a", "b", 0), 0, 1)
	take(r, asked("b", "b", 0), 10, 2)
	if _, verdict := take(r, asked("c", "b", 0), 59_999, 3); verdict != Unchecked {
		t.Errorf("within the forgotten key's time: verdict %d, want unchecked", verdict)
	}
	if _, verdict := take(r, asked("c", "b", 0), 60_000, 3); verdict != New {
		t.Errorf("after it: verdict %d, want new", verdict)
	}
}

func TestAKeyThatIsTakenAgainOutlivesItsFirstPlace(t *testing.T) {
	r := &Repeats[int]{Limit: 2}
	r.Remember(asked("a", "b", 0), 0, 1)
	r.Remember(asked("b", "b", 0), 0, 2)
	r.Remember(asked("a", "b", 0), 0, 3) // as a requeued request does; it pushes out where a stood first
	if outcome, verdict := r.Look(asked("a", "b", 0), 0); verdict != Repeated || outcome != 3 {
		t.Errorf("a: %d, verdict %d", outcome, verdict)
	}
	if _, verdict := r.Look(asked("b", "b", 0), 0); verdict != Repeated || r.Forgotten != 0 {
		t.Errorf("b: verdict %d, with %d forgotten; nothing was", verdict, r.Forgotten)
	}
}

func TestAKeyForEverIsKeptForEver(t *testing.T) {
	r := &Repeats[int]{Limit: 2}
	key := &event.Idempotency{Key: []byte("k"), KeepSeconds: math.MaxInt64}
	take(r, key, 1_700_000_000_000, 1)
	if _, verdict := take(r, key, math.MaxInt64-1, 2); verdict != Repeated {
		t.Errorf("verdict %d, want the first answer", verdict)
	}
}

// projected is what the projections and a door make of a log of keys: each that was taken, by its ordinal.
type projected map[string]Repeat[int]

// TestDoorsThatLookForForgottenKeysGiveEveryKeyOneOutcome folds requests of doors whose views are behind the log by
// random distances, with a memory of very few keys.
func TestDoorsThatLookForForgottenKeysGiveEveryKeyOneOutcome(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 3))
		r, rows, first := &Repeats[int]{Limit: 3}, projected{}, map[string]int{}
		views := []Repeats[int]{snapshot(r)}
		for n := 1; n <= 400; n++ {
			name := fmt.Sprint(random.IntN(12))
			want, taken := first[name]
			outcome, verdict, answered := n, Unchecked, false
			for behind := min(len(views)-1, random.IntN(8)); verdict == Unchecked; behind = 0 {
				outcome, verdict, answered = throughDoor(r, &views[len(views)-1-behind], rows, name, n)
				views = append(views, snapshot(r))
			}
			if taken && (outcome != want || verdict != Repeated) || !taken && (answered || verdict != New) {
				t.Fatalf("seed %d: request %d of key %s: %d, verdict %d; its first answer was %d", seed, n, name, outcome, verdict, want)
			}
			if !taken {
				first[name] = n
			}
		}
	}
}

// throughDoor looks a key up as a door does that sees an older state, and appends the request unless that answers it.
func throughDoor(r, view *Repeats[int], rows projected, name string, n int) (outcome int, verdict Verdict, answered bool) {
	checked, forgotten := view.LookUp([]byte(name))
	if row, found := rows[name]; found && row.Ordinal <= forgotten {
		return row.Outcome, Repeated, true
	}
	key := asked(name, "b", checked)
	key.KeepSeconds = 1 << 20
	outcome, verdict = take(r, key, int64(n), n)
	if verdict == New {
		newest, kept := r.Newest()
		rows[newest] = kept
	}
	return outcome, verdict, false
}

func snapshot(r *Repeats[int]) Repeats[int] {
	known := make(map[string]Repeat[int], len(r.Known))
	for name, repeat := range r.Known {
		known[name] = repeat
	}
	return Repeats[int]{Limit: r.Limit, Known: known, Taken: r.Taken, Forgotten: r.Forgotten}
}
