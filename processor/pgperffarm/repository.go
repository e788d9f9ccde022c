package pgperffarm

import "slices"

// OfficialRepositories are PostgreSQL's own repositories (section 4.2), in the order in which the farm numbers them.
// Trends show only runs of these.
func OfficialRepositories() []string {
	return []string{
		"https://github.com/postgres/postgres.git",
		"http://git.postgresql.org/git/postgresql.git",
		"git://git.postgresql.org/git/postgresql.git",
		"https://github.com/postgres/postgres",
	}
}

// OfficialRepository reports whether url is, to the letter, one of OfficialRepositories.
func OfficialRepository(url string) bool { return slices.Contains(OfficialRepositories(), url) }
