package pgperffarm

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

func TestASystemIsReadAgainOnceItSaysSomethingElse(t *testing.T) {
	upload, err := os.ReadFile("testdata/pgbench.json")
	if err != nil {
		t.Fatal(err)
	}
	systems := new(Systems)
	for _, memory := range []string{"65536", "65536", "65537", "65536"} {
		changed := bytes.Replace(upload, []byte("work_mem,65536"), []byte("work_mem,"+memory), 1)
		doc, err := systems.Parse(changed, DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if got := doc.Settings[0].Value; got != memory {
			t.Errorf("work_mem is %s, want %s", got, memory)
		}
	}
	if len(systems.known) != 2 {
		t.Errorf("%d systems are known, want 2", len(systems.known))
	}
}

func TestWhatIsRememberedOfSystemsIsBounded(t *testing.T) {
	systems := new(Systems)
	for i := range 3 * maxSystems / maxSystemText {
		found := new(members)
		found[memberPlaces["compiler"]] = fmt.Appendf(nil, "%*d", maxSystemText, i)
		systems.keep(systems.text(found, DefaultLimits()), new(System))
	}
	bytes := 0
	for text, system := range systems.known {
		bytes += system.size(text)
	}
	if bytes != systems.bytes || bytes > maxSystems || bytes < maxSystems/2 {
		t.Errorf("%d bytes are known and %d counted, the bound is %d", bytes, systems.bytes, maxSystems)
	}
	found := new(members)
	found[memberPlaces["compiler"]] = make([]byte, maxSystemText+1)
	if systems.text(found, DefaultLimits()) != nil {
		t.Error("a system over the bound is remembered")
	}
}
