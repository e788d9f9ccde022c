package pgperffarm

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Branch names and commits go into URLs and pages of clients that do not escape them (weakness W8), so only plain ones
// are accepted. The functions return what is wrong, or "".

// badBranch applies git's rules for reference names, and refuses what is markup in a page.
func badBranch(name string) string {
	switch {
	case name == "":
		return "is empty"
	case name == "@" || strings.Contains(name, "@{"):
		return `is no branch name: "@" alone and "@{" mean something else to git`
	case strings.HasPrefix(name, "-"):
		return `is no branch name: it begins with "-"`
	case strings.HasSuffix(name, "."):
		return `is no branch name: it ends with "."`
	case strings.Contains(name, ".."):
		return `is no branch name: it holds ".."`
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return `is no branch name: it has an empty part between slashes`
		case strings.HasPrefix(part, "."):
			return `is no branch name: a part begins with "."`
		case strings.HasSuffix(part, ".lock"):
			return `is no branch name: a part ends with ".lock"`
		}
	}
	return notPlain(name, "~^:?*[\\")
}

// badCommit accepts any plain text that is one segment of a path: a commit is only a text here (section 4.2).
func badCommit(commit string) string {
	if commit == "" {
		return "is empty"
	}
	return notPlain(commit, "/\\")
}

// remoteSchemes are those of git's addresses; the value says that the address may name a user, who is no secret there.
var remoteSchemes = map[string]bool{"http": false, "https": false, "git": false, "ssh": true, "git+ssh": true, "ssh+git": true}

var (
	// scpLike is git's short form for ssh. Without a user it could not be told from an address with a scheme.
	scpLike = regexp.MustCompile(`\A[A-Za-z0-9._-]+@([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):.+\z`)
	// localPath is a clone from a folder; two slashes would lead a browser to another host.
	localPath = regexp.MustCompile(`\A/[^/\\]`)
)

// CheckRemote refuses a repository that is no address of git's or that holds a secret: it is shown to everybody, and pages
// of clients make it a link. Doors ask it before they accept a document; Parse does not, so that what was accepted before
// stays readable. The error does not repeat the address.
func CheckRemote(address string) error {
	if reason := badRemote(address); reason != "" {
		return &DocumentError{Member: "git.remote", Reason: reason}
	}
	return nil
}

func badRemote(address string) string {
	const want = "is no address of a git repository: want http, https, git, ssh, git+ssh or ssh+git with a host, USER@HOST:PATH or a path from the root"
	if scpLike.MatchString(address) || localPath.MatchString(address) {
		return ""
	}
	remote, err := url.Parse(address)
	if err != nil || remote.Hostname() == "" {
		return want
	}
	user, known := remoteSchemes[remote.Scheme]
	if !known {
		return want
	}
	if _, secret := remote.User.Password(); secret || remote.User != nil && !user {
		return "holds a user's name or password, which everybody could read: upload the address without them"
	}
	return ""
}

// badRepository accepts whatever may name a repository, but no white space, control characters or markup.
func badRepository(url string) string {
	if url == "" {
		return "is empty"
	}
	for _, c := range url {
		if c == ' ' || !unicode.IsPrint(c) || strings.ContainsRune("<>\"'`", c) {
			return "holds the character " + strconv.QuoteRune(c) + ", which no repository URL has"
		}
	}
	return ""
}

func notPlain(s, forbidden string) string {
	for _, c := range s {
		if c == ' ' || !unicode.IsPrint(c) || strings.ContainsRune("<>&\"'`", c) || strings.ContainsRune(forbidden, c) {
			return "holds the character " + strconv.QuoteRune(c) + ", which is not allowed in it"
		}
	}
	return ""
}
