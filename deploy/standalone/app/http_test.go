package app

import "testing"

func TestAnAddressToListenOnIsToldAsOneThatCanBeOpened(t *testing.T) {
	for listened, want := range map[string]string{
		"[::]:8080": "127.0.0.1:8080", "0.0.0.0:8080": "127.0.0.1:8080", ":8080": "127.0.0.1:8080",
		"127.0.0.1:8080": "127.0.0.1:8080", "10.0.0.1:8080": "10.0.0.1:8080", "[::1]:8080": "[::1]:8080",
	} {
		if got := Reachable(listened); got != want {
			t.Errorf("%s is told as %s, want %s", listened, got, want)
		}
	}
}
