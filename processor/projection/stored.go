package projection

import "github.com/millrace/millrace/schemas/event"

// StoredDocument is a document as the columns of table jobs have it.
type StoredDocument struct {
	Inline, Blob string
	BlobSize     uint64
	Encoding     uint8
	Size         uint64
}

// Document gives the document for unpacking.
func (s *StoredDocument) Document() *event.Document {
	d := &event.Document{Encoding: event.Encoding(s.Encoding), Size: s.Size, Place: &event.Document_Inline{Inline: []byte(s.Inline)}}
	if s.Blob != "" {
		d.Place = &event.Document_Blob{Blob: &event.BlobRef{Sha256: []byte(s.Blob), Size: s.BlobSize}}
	}
	return d
}
