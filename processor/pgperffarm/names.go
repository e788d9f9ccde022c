package pgperffarm

import (
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
