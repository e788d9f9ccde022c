package debci

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// RejectList are the tests that are not to run (4).
type RejectList struct{ entries []rejected }

// rejected is a line of the list; "*" stands for any.
type rejected struct{ pattern, suite, arch, version, comment string }

// ReadRejectList reads lines of the form "package [suite [arch [version]]]". The package may hold shell wildcards; the
// lines of a comment right above are the reason.
func ReadRejectList(r io.Reader) (*RejectList, error) {
	list := new(RejectList)
	var comment []string
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if text, isComment := strings.CutPrefix(line, "#"); isComment {
			comment = append(comment, strings.TrimSpace(text))
			continue
		}
		fields := strings.Fields(line)
		if len(fields) > 4 {
			return nil, fmt.Errorf("reject list, line %d: want package, suite, architecture and version, not %d words", n, len(fields))
		}
		if len(fields) > 0 {
			entry := append(fields, "*", "*", "*")
			if _, err := path.Match(entry[0], ""); err != nil {
				return nil, fmt.Errorf("reject list, line %d: package %q: %w", n, entry[0], err)
			}
			list.entries = append(list.entries, rejected{entry[0], entry[1], entry[2], entry[3], strings.Join(comment, "\n")})
		}
		comment = nil
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the reject list: %w", err)
	}
	return list, nil
}

// Contains tells whether a test is not to run. Its version is not known yet, so lines about one version do not count.
func (l *RejectList) Contains(pkg, suite, arch string) bool {
	for _, e := range l.entries {
		matches, _ := path.Match(e.pattern, pkg) // its form was checked
		if matches && isOrAny(e.suite, suite) && isOrAny(e.arch, arch) && e.version == "*" {
			return true
		}
	}
	return false
}

func isOrAny(wanted, value string) bool { return wanted == "*" || wanted == value }

// Tree is the list by package, suite, architecture and version, with the reasons.
func (l *RejectList) Tree() map[string]map[string]map[string]map[string]string {
	tree := map[string]map[string]map[string]map[string]string{}
	for _, e := range l.entries {
		suites := member(tree, e.pattern)
		member(member(suites, e.suite), e.arch)[e.version] = e.comment
	}
	return tree
}

// member gives the map under a key, which it makes when there is none.
func member[V any](of map[string]map[string]V, key string) map[string]V {
	if of[key] == nil {
		of[key] = map[string]V{}
	}
	return of[key]
}

// RejectFile is a reject list in a file that its operator may change at any time.
type RejectFile struct {
	path string

	mu       sync.Mutex
	modified time.Time
	size     int64
	list     *RejectList
}

// NewRejectFile gives the list in a file; an empty path is an empty list.
func NewRejectFile(path string) *RejectFile { return &RejectFile{path: path} }

// List gives the list as the file has it now.
func (f *RejectFile) List() (*RejectList, error) {
	if f.path == "" {
		return new(RejectList), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	about, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("find debci's reject list: %w", err)
	}
	if f.list != nil && about.ModTime().Equal(f.modified) && about.Size() == f.size {
		return f.list, nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("open debci's reject list: %w", err)
	}
	defer func() { _ = file.Close() }()
	list, err := ReadRejectList(file)
	if err != nil {
		return nil, err
	}
	f.list, f.modified, f.size = list, about.ModTime(), about.Size()
	return list, nil
}
