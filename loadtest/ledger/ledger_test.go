package ledger

import (
	"sync"
	"testing"
)

// books has two machines: uploads 0 to 3 of each were stored, refused, left unknown and never sent.
func books() *Ledger {
	l := New(2)
	for machine := range 2 {
		l.Sent(Upload{machine, 0})
		l.Stored(Upload{machine, 0}, uint64(10+machine))
		l.Sent(Upload{machine, 1})
		l.Refused(Upload{machine, 1})
		l.Sent(Upload{machine, 2})
	}
	return l
}

func seen(machine, number int, run uint64, times int) Sighting {
	return Sighting{Upload: Upload{machine, number}, Run: run, Times: times}
}

func TestCompareFindsEveryKindOfFault(t *testing.T) {
	good := []Sighting{seen(0, 0, 10, 1), seen(1, 0, 11, 1)}
	tests := map[string]struct {
		sightings []Sighting
		want      Audit
	}{
		"what was acknowledged is there once":     {good, Audit{}},
		"an unknown one may be there":             {append(good[:2:2], seen(0, 2, 12, 1)), Audit{UnknownStored: 1}},
		"an acknowledged one is missing":          {good[:1], Audit{Lost: 1}},
		"nothing is there":                        {nil, Audit{Lost: 2}},
		"one is listed twice":                     {append(good[:2:2], good[0]), Audit{Twice: 1}},
		"one counts twice":                        {[]Sighting{seen(0, 0, 10, 2), good[1]}, Audit{Twice: 1}},
		"an unknown one counts twice":             {append(good[:2:2], seen(1, 2, 0, 2)), Audit{Twice: 1, UnknownStored: 1}},
		"one counts zero times":                   {[]Sighting{seen(0, 0, 10, 0), good[1]}, Audit{Lost: 1}},
		"one has another id":                      {[]Sighting{seen(0, 0, 99, 1), good[1]}, Audit{OtherID: 1}},
		"a list that tells no id is believed":     {[]Sighting{seen(0, 0, 0, 1), good[1]}, Audit{}},
		"a refused one is there":                  {append(good[:2:2], seen(0, 1, 12, 1)), Audit{RefusedStored: 1}},
		"one is there that was never sent":        {append(good[:2:2], seen(0, 3, 12, 1)), Audit{Phantoms: 1}},
		"one is there of a machine that is none":  {append(good[:2:2], seen(2, 0, 12, 1)), Audit{Phantoms: 1}},
		"one is there of a machine below nothing": {append(good[:2:2], seen(-1, 0, 12, 1)), Audit{Phantoms: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := books().Compare("list", test.sightings)
			if examples := len(got.Examples); examples != got.Faults() {
				t.Errorf("%d faults with %d examples", got.Faults(), examples)
			}
			got.Examples, got.List = nil, ""
			test.want.Acknowledged, test.want.Unknown, test.want.Refused = 2, 2, 2
			if !equal(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func equal(a, b Audit) bool {
	return a.Acknowledged == b.Acknowledged && a.Lost == b.Lost && a.Twice == b.Twice && a.OtherID == b.OtherID &&
		a.Unknown == b.Unknown && a.UnknownStored == b.UnknownStored && a.Refused == b.Refused &&
		a.RefusedStored == b.RefusedStored && a.Phantoms == b.Phantoms
}

func TestExamplesAreBounded(t *testing.T) {
	l := New(1)
	for number := range 100 {
		l.Stored(Upload{0, number}, uint64(number+1))
	}
	audit := l.Compare("list", nil)
	if audit.Lost != 100 || len(audit.Examples) != maxExamples {
		t.Errorf("lost %d with %d examples, want 100 with %d", audit.Lost, len(audit.Examples), maxExamples)
	}
}

func TestExpectCountsWhatMustAndWhatMayBeThere(t *testing.T) {
	least, most := books().Expect(0)
	if least != 1 || most != 2 {
		t.Errorf("from %d to %d, want from 1 to 2", least, most)
	}
}

func TestLedgerCountsFromManySenders(t *testing.T) {
	l := New(8)
	var senders sync.WaitGroup
	for machine := range 8 {
		senders.Go(func() {
			for number := range 500 {
				l.Sent(Upload{machine, number})
				if number%2 == 0 {
					l.Stored(Upload{machine, number}, uint64(1+machine*500+number))
				}
			}
		})
	}
	senders.Wait()
	if stored, open := l.Count(Stored), l.Count(Unknown); stored != 2000 || open != 2000 {
		t.Errorf("%d stored and %d unknown, want 2000 of each", stored, open)
	}
	runs := l.Runs()
	if len(runs) != 2000 || runs[0] != 1 || runs[1999] != 7*500+498+1 {
		t.Errorf("%d runs from %d to %d", len(runs), runs[0], runs[len(runs)-1])
	}
}
