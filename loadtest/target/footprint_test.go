package target

import "testing"

func TestMemoryIsReadFromAProcesssStatus(t *testing.T) {
	for text, want := range map[string]int64{
		"Name:\tmillrace\nVmHWM:\t  999 kB\nVmRSS:\t  123456 kB\nRssAnon:\t 5 kB\n": 123456 << 10,
		"Name:\tgone\n": 0, "": 0, "VmRSS:\tmany kB\n": 0,
	} {
		if got := parseMemory(text); got != want {
			t.Errorf("%q: %d bytes, want %d", text, got, want)
		}
	}
}
