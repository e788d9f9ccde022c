package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMomentsFollowFromTheSeed(t *testing.T) {
	s := Schedule{Kills: 1000, Within: 2 * time.Second, Unready: 0.25}
	moments := slices.Collect(s.Moments(1))
	if len(moments) != 1000 {
		t.Fatalf("%d kills, want 1000", len(moments))
	}
	if !slices.Equal(moments, slices.Collect(s.Moments(1))) || slices.Equal(moments, slices.Collect(s.Moments(2))) {
		t.Error("the same seed gives other moments, or another seed the same")
	}
	unready, early := 0, 0
	for _, m := range moments {
		if m.After < 0 || m.After >= s.Within {
			t.Fatalf("a kill after %s, want from 0 to %s", m.After, s.Within)
		}
		if m.Unready {
			unready++
		}
		if m.After < s.Within/2 {
			early++
		}
	}
	if unready < 200 || unready > 300 || early < 450 || early > 550 {
		t.Errorf("%d of 1000 kills do not wait, %d are in the first half; want about 250 and 500", unready, early)
	}
}

func TestValidateSaysWhatCannotWork(t *testing.T) {
	for want, s := range map[string]Schedule{
		"kills":   {Kills: -1, Within: time.Second},
		"within":  {Kills: 1},
		"unready": {Kills: 1, Within: time.Second, Unready: 1.5},
	} {
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: error %v, want one of %s", s, err, want)
		}
	}
	if err := (Schedule{}).Validate(); err != nil {
		t.Errorf("no kills: %v", err)
	}
}

// diary is a victim that notes what happens to it.
type diary struct {
	notes []string
	fail  string
}

func (d *diary) note(what string) error {
	if what == d.fail {
		return errors.New(what + " failed")
	}
	d.notes = append(d.notes, what)
	return nil
}

func (d *diary) victim() Victim {
	return Victim{
		Kill: func() error { return d.note("kill") }, Restart: func() error { return d.note("restart") },
		Well: func(context.Context) error { return d.note("well") },
	}
}

func TestEveryKillWaitsUntilAllIsWellAndTheVictimIsLeftWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		var told []int
		s := Schedule{Kills: 2, Within: time.Hour}
		if err := s.Run(t.Context(), 1, d.victim(), func(n int) { told = append(told, n) }); err != nil {
			t.Fatal(err)
		}
		want := []string{"well", "kill", "restart", "well", "kill", "restart", "well"}
		if !slices.Equal(d.notes, want) || !slices.Equal(told, []int{1, 2}) {
			t.Errorf("happened %v and told %v, want %v", d.notes, told, want)
		}
	})
}

func TestAKillOfTheUnreadyDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		if err := (Schedule{Kills: 3, Within: time.Second, Unready: 1}).Run(t.Context(), 1, d.victim(), func(int) {}); err != nil {
			t.Fatal(err)
		}
		want := []string{"well", "kill", "restart", "kill", "restart", "kill", "restart", "well"}
		if !slices.Equal(d.notes, want) {
			t.Errorf("happened %v, want %v", d.notes, want)
		}
	})
}

func TestAFailureEndsTheKillsAndSaysWhere(t *testing.T) {
	for _, step := range []string{"kill", "restart", "well"} {
		synctest.Test(t, func(t *testing.T) {
			d := &diary{fail: step}
			err := (Schedule{Kills: 5, Within: time.Second}).Run(t.Context(), 1, d.victim(), func(int) {})
			if err == nil || !strings.Contains(err.Error(), step+" failed") {
				t.Errorf("error %v, want that %s failed", err, step)
			}
			if kills := strings.Count(fmt.Sprint(d.notes), "kill"); kills > 1 {
				t.Errorf("%d kills after a failure", kills)
			}
		})
	}
}

func TestKillsEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d := &diary{}
		err := (Schedule{Kills: 1000, Within: time.Minute}).Run(ctx, 1, d.victim(), func(int) {})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the context's", err)
		}
	})
}
