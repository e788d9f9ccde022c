// Package document packs a request's body into an event: inside it while it is small, by blob store and reference when
// it does not fit a record.
package document

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
)

// InlineLimit is the largest packed body that rides in its event, in bytes. A document of 100 KB fits: by the blob store
// it would cost two more synchronous writes.
const InlineLimit = 96 << 10

// compressFrom is the size from which compression pays.
const compressFrom = 4 << 10

// Packer packs and unpacks bodies. It is safe for concurrent use.
type Packer struct {
	blobs   *blob.Store
	limit   int64
	decoder *zstd.Decoder
}

// NewPacker gives a packer over a blob store; bodies over limit bytes are not unpacked.
func NewPacker(blobs *blob.Store, limit int64) (*Packer, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(4), zstd.WithDecoderMaxMemory(uint64(limit)))
	if err != nil {
		return nil, fmt.Errorf("prepare decompression: %w", err)
	}
	return &Packer{blobs: blobs, limit: limit, decoder: decoder}, nil
}

// Pack gives the document for an event. When it returns, a body that went to the blob store is durable there. The
// document may share the body's memory.
func (p *Packer) Pack(ctx context.Context, body []byte) (*event.Document, error) {
	packed, encoding := body, event.Encoding_ENCODING_IDENTITY
	if len(body) >= compressFrom {
		packed, encoding = s2.Encode(nil, body), event.Encoding_ENCODING_S2
	}
	document := &event.Document{Encoding: encoding, Size: uint64(len(body))}
	if len(packed) <= InlineLimit {
		document.Place = &event.Document_Inline{Inline: packed}
		return document, nil
	}
	ref, err := p.blobs.PutBytes(ctx, packed)
	if err != nil {
		return nil, fmt.Errorf("store a document of %d bytes: %w", len(packed), err)
	}
	document.Place = &event.Document_Blob{Blob: &event.BlobRef{Sha256: ref.SHA256[:], Size: uint64(ref.Size)}}
	return document, nil
}

// DataRef names the blob that a document refers to, for the envelope of its event; empty when it rides inside.
func DataRef(document *event.Document) string {
	return hex.EncodeToString(document.GetBlob().GetSha256())
}

// ErrUnreadable means that the document's bytes are there but are not what they should be, or are gone: repeating does
// not help.
var ErrUnreadable = errors.New("document cannot be read")

// Unpack gives the body back.
func (p *Packer) Unpack(ctx context.Context, document *event.Document) ([]byte, error) {
	packed, err := p.packed(ctx, document)
	if err != nil {
		return nil, err
	}
	body, err := p.decode(document.GetEncoding(), packed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return body, nil
}

func (p *Packer) decode(encoding event.Encoding, packed []byte) ([]byte, error) {
	switch encoding {
	case event.Encoding_ENCODING_IDENTITY:
		return packed, nil
	case event.Encoding_ENCODING_ZSTD:
		return p.decoder.DecodeAll(packed, nil)
	case event.Encoding_ENCODING_S2:
		size, err := s2.DecodedLen(packed)
		if err != nil || int64(size) > p.limit {
			return nil, fmt.Errorf("it unpacks to %d bytes, the limit is %d (%w)", size, p.limit, err)
		}
		return s2.Decode(nil, packed)
	}
	return nil, fmt.Errorf("encoding %s is not known", encoding)
}

func (p *Packer) packed(ctx context.Context, document *event.Document) ([]byte, error) {
	reference := document.GetBlob()
	if reference == nil {
		return document.GetInline(), nil
	}
	ref, err := blob.NewRef(reference.GetSha256(), int64(reference.GetSize()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	packed, err := p.blobs.ReadAll(ctx, ref, ref.Size)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrCorrupt) {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return packed, err
}
