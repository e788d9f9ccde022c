package pgperffarm

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Names and values come from the sender, who may have chosen long ones: errors show so many bytes of them.
const (
	maxPathShown  = 200
	maxValueShown = 40
)

// pointerPath writes a JSON pointer into the body as a member path: /0/git/branch is git.branch.
func pointerPath(pointer jsontext.Pointer) string {
	var b strings.Builder
	first := true
	for token := range pointer.Tokens() {
		if !first { // the first is the place in the top-level array
			appendStep(&b, token, isIndex(token))
		}
		first = false
	}
	return clip(b.String(), maxPathShown)
}

func isIndex(token string) bool {
	_, err := strconv.ParseUint(token, 10, 32)
	return err == nil
}

func appendStep(b *strings.Builder, token string, index bool) {
	switch {
	case index:
		b.WriteString("[" + token + "]")
	case b.Len() == 0:
		b.WriteString(token)
	default:
		b.WriteString("." + token)
	}
}

// clip shortens s to at most limit bytes of whole characters.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}

func shown(b []byte) string {
	return strconv.Quote(clip(string(b[:min(len(b), maxValueShown+1)]), maxValueShown))
}
