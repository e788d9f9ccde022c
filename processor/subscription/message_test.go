package subscription

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestSignatureIsThatOfTheExampleInTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	signature := Sign([]byte("millrace_whsec_example"), []byte(`{"id":"1"}`), time.Unix(1767323045, 0))
	proof, found := strings.CutPrefix(signature, "t=1767323045,v1=")
	if !found || !strings.Contains(string(readme), "\n# "+proof+"\n") {
		t.Errorf("the signature is %s, which the README does not show", signature)
	}
}
