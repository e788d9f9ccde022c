package document

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
)

func newPacker(t testing.TB) *Packer {
	t.Helper()
	blobs, err := blob.Open(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	packer, err := NewPacker(blobs, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return packer
}

func noise(n int) []byte {
	random := rand.NewChaCha8([32]byte{})
	body := make([]byte, n)
	_, _ = random.Read(body)
	return body
}

func TestBodiesComeBackWhateverWayTheyTravelled(t *testing.T) {
	for name, c := range map[string]struct {
		body   []byte
		byBlob bool
	}{
		"empty":                    {nil, false},
		"small":                    {[]byte(`[{"meta":{}}]`), false},
		"large but compressible":   {bytes.Repeat([]byte("1625223600 799 7910100\n"), 20_000), false},
		"large":                    {noise(200_000), true},
		"as large as may ride":     {noise(InlineLimit - 100), false},
		"just over what may ride":  {noise(InlineLimit + 1), true},
		"at the limit of unpacked": {bytes.Repeat([]byte("x"), 1<<20), false},
	} {
		packer := newPacker(t)
		packed, err := packer.Pack(t.Context(), c.body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if byBlob := packed.GetBlob() != nil; byBlob != c.byBlob || (DataRef(packed) != "") != c.byBlob {
			t.Errorf("%s: travels by blob: %t, want %t", name, byBlob, c.byBlob)
		}
		got, err := packer.Unpack(t.Context(), packed)
		if err != nil || !bytes.Equal(got, c.body) {
			t.Errorf("%s: came back with %d of %d bytes, %v", name, len(got), len(c.body), err)
		}
	}
}

func TestBodiesPackedByZstdStayReadable(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := &event.Document{
		Encoding: event.Encoding_ENCODING_ZSTD, Place: &event.Document_Inline{Inline: encoder.EncodeAll([]byte("body"), nil)},
	}
	if got, err := newPacker(t).Unpack(t.Context(), packed); err != nil || string(got) != "body" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWhatNoRetryMakesReadableIsToldApart(t *testing.T) {
	packer := newPacker(t)
	bomb, err := packer.Pack(t.Context(), bytes.Repeat([]byte("x"), 1<<20+1))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := newPacker(t).Pack(t.Context(), noise(200_000)) // in another store
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*event.Document{
		"unknown encoding":  {Encoding: 99},
		"no encoding":       {},
		"broken s2":         {Encoding: event.Encoding_ENCODING_S2, Place: &event.Document_Inline{Inline: []byte{0xff}}},
		"broken zstd":       {Encoding: event.Encoding_ENCODING_ZSTD, Place: &event.Document_Inline{Inline: []byte("x")}},
		"over the limit":    bomb,
		"no blob":           gone,
		"reference no hash": {Encoding: event.Encoding_ENCODING_IDENTITY, Place: &event.Document_Blob{Blob: &event.BlobRef{Sha256: []byte("x")}}},
	} {
		if _, err := packer.Unpack(t.Context(), d); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
