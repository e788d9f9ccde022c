package cursor

import (
	"encoding/base64"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	kinds = []Kind{Number, Text, Number}
	key   = Key{{Number: 1700000000123456}, {Text: "collectd.memory.free €"}, {Number: math.MaxUint64}}
)

func TestCursorGivesBackTheKeyItWasMadeOf(t *testing.T) {
	for name, tc := range map[string]struct {
		kinds []Kind
		key   Key
	}{
		"mixed":      {kinds, key},
		"zero":       {[]Kind{Number}, Key{{}}},
		"empty text": {[]Kind{Text, Text}, Key{{}, {Text: "a"}}},
		"nothing":    {nil, Key{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(Format("runs?sort=run_id", tc.kinds, tc.key), "runs?sort=run_id", tc.kinds)
			if err != nil {
				t.Fatalf("parse: %v", err)
			}
			if diff := cmp.Diff(tc.key, got); diff != "" {
				t.Errorf("key differs (-made +read):\n%s", diff)
			}
		})
	}
}

func TestCursorOfAnotherQueryIsRefused(t *testing.T) {
	text := Format("runs?machine=1", kinds, key)
	if _, err := Parse(text, "runs?machine=2", kinds); !errors.Is(err, ErrOtherQuery) {
		t.Errorf("error is %v, want ErrOtherQuery", err)
	}
}

func TestWhatIsNoCursorIsRefused(t *testing.T) {
	good := Format("q", kinds, key)
	packed, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	otherVersion := append([]byte{2}, packed[1:]...)
	for name, text := range map[string]string{
		"empty":            "",
		"not base64":       "a cursor!",
		"padded":           good + "==",
		"cut":              good[:len(good)-2],
		"longer":           encode(append(packed, 0)),
		"other version":    encode(otherVersion),
		"digest only":      encode(packed[:9]),
		"text past end":    encode(append(append([]byte{}, packed[:9]...), 1, 200, 1, 'x')),
		"long varint":      encode(append(append([]byte{}, packed[:9]...), 0x81, 0x00, 0, 1)),
		"too long":         encode(make([]byte, MaxLength)),
		"text not UTF-8":   Format("q", kinds, Key{{}, {Text: "\xff"}, {}}),
		"other base64 end": good[:len(good)-1] + string(good[len(good)-1]+1),
	} {
		if got, err := Parse(text, "q", kinds); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v and error %v, want ErrMalformed", name, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Format("q", kinds, key))
	f.Add(Format("q", kinds, Key{{}, {}, {}}))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Parse(text, "q", kinds)
		if err != nil {
			return
		}
		if again := Format("q", kinds, got); again != text {
			t.Errorf("accepted %q, which Format writes as %q", text, again)
		}
	})
}
