package apachekafka

import (
	"strings"
	"testing"
)

func TestNoClusterIDLooksLikeAnOption(t *testing.T) {
	for range 10_000 {
		if id := newClusterID(); strings.HasPrefix(id, "-") || len(id) != 22 {
			t.Fatalf("cluster id %q", id)
		}
	}
}
