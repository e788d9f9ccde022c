package access

import (
	"crypto/subtle"
	"net/http"

	"github.com/gin-gonic/gin"
)

// ForgeryCookie holds the token that scripts echo in the header X-CSRFToken, which other sites cannot (contract 3.2).
const ForgeryCookie = "csrftoken"

const forgeryHeader = "X-Csrftoken"

// forgeryTokenMatches compares cookie and header.
func forgeryTokenMatches(r *http.Request) bool {
	const longest = 256
	cookie, err := r.Cookie(ForgeryCookie)
	if err != nil || cookie.Value == "" || len(cookie.Value) > longest {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(r.Header.Get(forgeryHeader))) == 1
}

const forgeryPage = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>403 Forbidden</title></head>
<body>
<h1>Forbidden</h1>
<p>The request was refused to protect you against request forgery. Send the value of the cookie csrftoken, which the
login sets, in the header X-CSRFToken.</p>
</body>
</html>
`

func refuseForgery(c *gin.Context) {
	c.Abort()
	c.Data(http.StatusForbidden, "text/html; charset=utf-8", []byte(forgeryPage))
}
