package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// randomBytes are bytes that no one compresses, the same for one seed.
func randomBytes(seed uint64, size int) []byte {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(content)
	return content
}

// formWith is a multipart form with one file, and its content type.
func formWith(t testing.TB, part string, content []byte) (body []byte, kind string) {
	t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	file, err := w.CreateFormFile(part, "file")
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return form.Bytes(), w.FormDataContentType()
}

// sendFile posts a file as Testflinger's clients do.
func (c *caller) sendFile(t testing.TB, path string, content []byte) Answer {
	t.Helper()
	body, kind := formWith(t, "file", content)
	return c.with("Content-Type", kind).do(t, http.MethodPost, path, body)
}

// wantFile compares an answer with a file.
func (a Answer) wantFile(t testing.TB, content []byte, kind, disposition string) {
	t.Helper()
	a.Want(t, http.StatusOK)
	sum := sha256.Sum256(content)
	for name, want := range map[string]string{
		"Content-Type": kind, "Content-Disposition": disposition, "Content-Encoding": "", "Accept-Ranges": "bytes",
		"Etag": `"` + hex.EncodeToString(sum[:]) + `"`, "Content-Length": fmt.Sprint(len(content)), "X-Content-Type-Options": "nosniff",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %s is %q, want %q", a.Asked, name, got, want)
		}
	}
	if !bytes.Equal(a.Body, content) {
		t.Errorf("%s: %d bytes came, which are not the %d that were stored", a.Asked, len(a.Body), len(content))
	}
}

func TestTestflingerAttachmentsGoToTheAgentAndTheFirstCount(t *testing.T) {
	covers(t, "POST /v1/job/:job_id/attachments", "GET /v1/job/:job_id/attachments")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		cli, queue := lab.visitor(t), Unique("queue")
		id := cli.queueJob(t, fmt.Sprintf(`{"job_queue":%q,"test_data":{"attachments":[{"agent":"a"}]}}`, queue))
		path := "/v1/job/" + id + "/attachments"
		cli.get(t, path).Want(t, http.StatusNoContent)
		cli.get(t, "/v1/job?queue="+queue).Want(t, http.StatusNoContent) // held until the files are there
		files := randomBytes(1, 300<<10)
		cli.sendFile(t, path, files).ok(t)
		cli.sendFile(t, path, []byte("other files")).ok(t) // and has no effect
		cli.get(t, path).wantFile(t, files, "application/gzip", "inline; filename=attachments.tar.gz")
		if got := cli.get(t, "/v1/job?queue="+queue).object(t)["attachments_status"]; got != "complete" {
			t.Errorf("the agent is told that the attachments are %v", got)
		}
		cli.sendFile(t, path, files).is(t, http.StatusUnprocessableEntity, "Job "+id+" is not valid")
		cli.get(t, path).wantFile(t, files, "application/gzip", "inline; filename=attachments.tar.gz")
		plain := cli.queueJob(t, fmt.Sprintf(`{"job_queue":%q}`, Unique("queue")))
		cli.sendFile(t, "/v1/job/"+plain+"/attachments", files).is(t, http.StatusUnprocessableEntity, "Job "+plain+" not awaiting attachments")
		const unknown = "5f1a8f0e-0000-4000-8000-000000000000"
		cli.sendFile(t, "/v1/job/"+unknown+"/attachments", files).is(t, http.StatusUnprocessableEntity, "Job "+unknown+" is not valid")
		cli.get(t, "/v1/job/"+unknown+"/attachments").Want(t, http.StatusNoContent)
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			cli.do(t, method, "/v1/job/x/attachments", nil).is(t, http.StatusBadRequest, "Invalid job id")
		}
	})
}

func TestTestflingerArtifactIsTheNewestAndComesByParts(t *testing.T) {
	covers(t, "POST /v1/result/:job_id/artifact", "GET /v1/result/:job_id/artifact")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		cli := lab.visitor(t)
		id := cli.queueJob(t, fmt.Sprintf(`{"job_queue":%q}`, Unique("queue")))
		path := "/v1/result/" + id + "/artifact"
		cli.get(t, path).Want(t, http.StatusNoContent)
		older, newest := randomBytes(2, 10_000), randomBytes(3, 700_001)
		cli.sendFile(t, path, older).ok(t)
		cli.sendFile(t, path, newest).ok(t)
		whole := cli.get(t, path)
		whole.wantFile(t, newest, "application/x-tar", "inline; filename=artifact.tar.gz")
		tag := whole.Header.Get("Etag")
		for asked, want := range map[string][2]int{
			"bytes=0-0": {0, 1}, "bytes=5-9": {5, 10}, "bytes=700000-": {700_000, 700_001}, "bytes=300000-": {300_000, 700_001},
			"bytes=-7": {699_994, 700_001}, "bytes=-9999999": {0, 700_001}, "bytes=100-9999999": {100, 700_001},
		} {
			part := cli.with("Range", asked).get(t, path).Want(t, http.StatusPartialContent)
			if got := part.Header.Get("Content-Range"); !bytes.Equal(part.Body, newest[want[0]:want[1]]) || got != fmt.Sprintf("bytes %d-%d/700001", want[0], want[1]-1) {
				t.Errorf("%s gives %d bytes and %q", asked, len(part.Body), got)
			}
		}
		for _, odd := range []string{"bytes=9-5", "bytes=0-1,4-5", "bytes=x-", "lines=1-2", "bytes=", "bytes=--1", "bytes=99999999999999999999-"} {
			if got := cli.with("Range", odd).get(t, path); got.Status != http.StatusOK || !bytes.Equal(got.Body, newest) {
				t.Errorf("%s gives %d with %d bytes, want the whole", odd, got.Status, len(got.Body))
			}
		}
		for _, behind := range []string{"bytes=700001-", "bytes=800000-900000", "bytes=-0"} {
			refusal := cli.with("Range", behind).get(t, path).Want(t, http.StatusRequestedRangeNotSatisfiable)
			if got := refusal.Header.Get("Content-Range"); got != "bytes */700001" {
				t.Errorf("%s is refused with %q", behind, got)
			}
		}
		goOn := cli.with("Range", "bytes=10-19")
		goOn.with("If-Range", tag).get(t, path).Want(t, http.StatusPartialContent)
		for _, other := range []string{`"0"`, "W/" + tag, "Sat, 01 Jan 2022 00:00:00 GMT"} {
			goOn.with("If-Range", other).get(t, path).wantFile(t, newest, "application/x-tar", "inline; filename=artifact.tar.gz")
		}
		cli.with("If-None-Match", `"0", `+tag).get(t, path).Want(t, http.StatusNotModified)
		head := cli.do(t, http.MethodHead, path, nil).Want(t, http.StatusOK)
		if head.Header.Get("Content-Length") != "700001" || len(head.Body) != 0 {
			t.Errorf("HEAD gives %v", head.Header)
		}
		const nobodys = "5f1a8f0e-0000-4000-8000-000000000001" // the job need not exist
		cli.sendFile(t, "/v1/result/"+nobodys+"/artifact", []byte{}).ok(t)
		cli.get(t, "/v1/result/"+nobodys+"/artifact").wantFile(t, []byte{}, "application/x-tar", "inline; filename=artifact.tar.gz")
		cli.with("Range", "bytes=0-").get(t, "/v1/result/"+nobodys+"/artifact").Want(t, http.StatusRequestedRangeNotSatisfiable)
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			cli.do(t, method, "/v1/result/x/artifact", nil).is(t, http.StatusBadRequest, "Invalid job id")
		}
	})
}

func TestArtifactsOfAJobAreStoredByItsWorkerAndRead(t *testing.T) {
	covers(t, "PUT /millrace/v1/jobs/:id/artifacts/:name", "GET /millrace/v1/jobs/:id/artifacts", "GET /millrace/v1/jobs/:id/artifacts/:name",
		"GET /ui/jobs/:id/artifacts/:name")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		writer, queue := lab.writer(t), Unique("queue")
		reader := lab.visitor(t).with("Authorization", "Bearer "+lab.Token(t, "viewer"))
		id := writer.submitJob(t, queue, 1, 0)
		path := jobsPath + "/" + id + "/artifacts"
		job := writer.claimJob(t, fmt.Sprintf(`{"queues":[%q]}`, queue))
		holder, log := writer.with("Millrace-Lease", job.Lease.Token), randomBytes(4, 200_000)
		put := func(by *caller, name string, content []byte) Answer {
			t.Helper()
			return by.with("Content-Type", "text/plain; charset=utf-8").do(t, http.MethodPut, path+"/"+name, content)
		}
		sum := sha256.Sum256(log)
		put(holder, "log.txt", []byte("first")).Want(t, http.StatusCreated)
		put(holder, "log.txt", log).is(t, http.StatusCreated, fmt.Sprintf(`{"name":"log.txt","size":200000,"sha256":"%x"}`, sum))
		put(holder, "core@1+2=3", []byte("core")).Want(t, http.StatusCreated)
		var list struct{ Items []map[string]any }
		reader.get(t, path).Want(t, http.StatusOK).JSON(t, &list)
		if got := column(list.Items, "name"); !slices.Equal(got, []string{"core@1+2=3", "log.txt"}) {
			t.Errorf("the artifacts are %v", list.Items)
		}
		wantMembers(t, list.Items[1], map[string]any{"size": 200_000, "sha256": hex.EncodeToString(sum[:]), "content_type": "text/plain", "attempt": 1})
		reader.get(t, path+"/log.txt").wantFile(t, log, "text/plain", "attachment; filename=log.txt")
		const page = "/ui/jobs/"
		reader.get(t, page+id).says(t, http.StatusOK, page+id+"/artifacts/log.txt")
		reader.get(t, page+id+"/artifacts/log.txt").wantFile(t, log, "text/plain", "attachment; filename=log.txt")
		if part := reader.with("Range", "bytes=199990-").get(t, path+"/log.txt"); part.Status != http.StatusPartialContent || !bytes.Equal(part.Body, log[199_990:]) {
			t.Errorf("the end is %d with %d bytes", part.Status, len(part.Body))
		}
		reader.get(t, path+"/nothing").refuses(t, http.StatusNotFound)
		put(writer, "log.txt", log).refuses(t, http.StatusBadRequest, "Millrace-Lease")
		put(writer.with("Millrace-Lease", "1.1.00"), "log.txt", log).refuses(t, http.StatusConflict)
		for _, name := range []string{"..", ".hidden", "a%2Fb", "-x", "a%00b", strings.Repeat("x", 201)} {
			if got := put(holder, name, log); got.Status != http.StatusBadRequest && got.Status != http.StatusNotFound {
				t.Errorf("an artifact named %s is answered by %d", name, got.Status)
			}
		}
		holder.post(t, jobsPath+"/"+id+"/result", `{"status":"pass"}`).Want(t, http.StatusOK)
		put(holder, "late.txt", log).refuses(t, http.StatusConflict)
		reader.get(t, path+"/log.txt").wantFile(t, log, "text/plain", "attachment; filename=log.txt")
	})
}

func TestOfTwoAttachmentsAtOnceOneCounts(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		cli := lab.visitor(t)
		for round := range 5 {
			id := cli.queueJob(t, fmt.Sprintf(`{"job_queue":%q,"test_data":{"attachments":[{"agent":"a"}]}}`, Unique("queue")))
			path := "/v1/job/" + id + "/attachments"
			var sent [][]byte
			var requests []func() (Answer, error)
			for i := range 4 {
				content := randomBytes(uint64(100+10*round+i), 100_000)
				body, kind := formWith(t, "file", content)
				sent = append(sent, content)
				door := lab.Ingest()[i%len(lab.Ingest())]
				requests = append(requests, func() (Answer, error) {
					return try(t.Context(), http.MethodPost, door+path, body, "Content-Type", kind)
				})
			}
			for _, answer := range together(t, requests...) {
				answer.ok(t)
			}
			got := cli.get(t, path).Want(t, http.StatusOK).Body
			if !slices.ContainsFunc(sent, func(content []byte) bool { return bytes.Equal(content, got) }) {
				t.Errorf("the attachments are none of those that were sent, but %d bytes", len(got))
			}
			if again := cli.get(t, path).Want(t, http.StatusOK).Body; !bytes.Equal(got, again) {
				t.Error("the attachments change")
			}
		}
	})
}

func TestBadUploadsAreRefusedAndLeaveNothing(t *testing.T) {
	lab := startWith(t, "MILLRACE_FILES_MAX_BYTES=100000", "MILLRACE_INGEST_BODY_PATIENCE=1s")
	cli := lab.visitor(t)
	id := cli.queueJob(t, fmt.Sprintf(`{"job_queue":%q,"test_data":{"attachments":[{"agent":"a"}]}}`, Unique("queue")))
	paths := []string{"/v1/job/" + id + "/attachments", "/v1/result/" + id + "/artifact"}
	whole, kind := formWith(t, "file", randomBytes(5, 50_000))
	other, otherKind := formWith(t, "files", []byte("content"))
	for _, path := range paths {
		message := func(a Answer, status int, text string) {
			t.Helper()
			a.says(t, status, `"message":`, text)
		}
		send := func(kind string, body []byte) Answer {
			return cli.with("Content-Type", kind).do(t, http.MethodPost, path, body)
		}
		message(cli.sendFile(t, path, randomBytes(6, 100_001)), http.StatusRequestEntityTooLarge, "Payload too large")
		message(cli.sendFile(t, path, randomBytes(6, 3<<20)), http.StatusRequestEntityTooLarge, "Payload too large")
		message(send(otherKind, other), http.StatusBadRequest, "file")
		message(send("application/octet-stream", []byte("content")), http.StatusBadRequest, "file")
		message(send("multipart/form-data", whole), http.StatusBadRequest, "file")
		message(send(kind, nil), http.StatusBadRequest, "")
		message(send(kind, whole[:len(whole)-8]), http.StatusBadRequest, "ends early")
		message(send(kind, whole[:30_000]), http.StatusBadRequest, "ends early")
		message(send(kind, bytes.Replace(whole, []byte("\r\n\r\n"), []byte("\r\n"), 1)), http.StatusBadRequest, "")
		lab.breakOff(t, path, kind, whole)
		lab.stall(t, path, kind, whole)
		cli.get(t, path).Want(t, http.StatusNoContent)
	}
	if temps, err := os.ReadDir(filepath.Join(lab.dir, "standalone", "blobs", "tmp")); err != nil || len(temps) != 0 {
		t.Errorf("%d temporary files are left, %v", len(temps), err)
	}
	for _, path := range paths {
		cli.with("Content-Type", kind).do(t, http.MethodPost, path, whole).ok(t)
		cli.get(t, path).Want(t, http.StatusOK)
	}
}

// beginUpload sends the half of a body over a connection of its own.
func (l *Lab) beginUpload(t *testing.T, path, kind string, body []byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", path, kind, len(body))
	if _, err := conn.Write(append([]byte(head), body[:len(body)/2]...)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func (l *Lab) breakOff(t *testing.T, path, kind string, body []byte) {
	t.Helper()
	if err := l.beginUpload(t, path, kind, body).Close(); err != nil {
		t.Fatal(err)
	}
}

// stall sends the half of a body and waits for the refusal.
func (l *Lab) stall(t *testing.T, path, kind string, body []byte) {
	t.Helper()
	conn := l.beginUpload(t, path, kind, body)
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 12))
	if err != nil || string(answer) != "HTTP/1.1 408" {
		t.Errorf("a body that stalls is answered by %q, %v", answer, err)
	}
}

func TestDamagedFileIsNeverAnsweredWhole(t *testing.T) {
	lab := start(t, "standalone")
	cli := lab.visitor(t)
	id := cli.queueJob(t, fmt.Sprintf(`{"job_queue":%q}`, Unique("queue")))
	path, content := "/v1/result/"+id+"/artifact", randomBytes(7, 1<<20)
	cli.sendFile(t, path, content).ok(t)
	sum := sha256.Sum256(content)
	name := hex.EncodeToString(sum[:])
	file := filepath.Join(lab.dir, "standalone", "blobs", name[:2], name[2:4], name)
	damaged := bytes.Clone(content)
	damaged[3]++
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"", "bytes=500000-", "bytes=10-20"} {
		by := cli
		if part != "" {
			by = by.with("Range", part)
		}
		if answer, err := by.try(t, http.MethodGet, path, nil); err == nil {
			t.Errorf("range %q of a damaged file is answered whole: %d with %d bytes", part, answer.Status, len(answer.Body))
		}
	}
	if log := lab.logs(); !strings.Contains(log, "its hash differs") {
		t.Errorf("the log says nothing of it:\n%s", log)
	}
	if err := os.Truncate(file, 5); err != nil {
		t.Fatal(err)
	}
	cli.get(t, path).Want(t, http.StatusInternalServerError)
	cli.sendFile(t, path, content).ok(t) // repairs it
	cli.get(t, path).wantFile(t, content, "application/x-tar", "inline; filename=artifact.tar.gz")
}

func TestArtifactsOutliveACrashAndARebuild(t *testing.T) {
	lab := start(t, "standalone")
	cli := lab.visitor(t)
	id := cli.queueJob(t, fmt.Sprintf(`{"job_queue":%q,"test_data":{"attachments":[{"agent":"a"}]}}`, Unique("queue")))
	attached, left := randomBytes(8, 100_000), randomBytes(9, 100_000)
	cli.sendFile(t, "/v1/job/"+id+"/attachments", attached).ok(t)
	cli.sendFile(t, "/v1/result/"+id+"/artifact", left).ok(t)
	lab.Crash(t)
	lab.Settle(t)
	shown := func() {
		t.Helper()
		cli.get(t, "/v1/job/"+id+"/attachments").wantFile(t, attached, "application/gzip", "inline; filename=attachments.tar.gz")
		cli.get(t, "/v1/result/"+id+"/artifact").wantFile(t, left, "application/x-tar", "inline; filename=artifact.tar.gz")
	}
	shown()
	lab.operator(t).do(t, http.MethodPost, "/millrace/v1/admin/replay", nil).Want(t, http.StatusOK)
	shown()
}
