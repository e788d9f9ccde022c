package ui

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/schemas/route"
)

// tokenCookie holds the token of a browser that has signed in. Scripts cannot read it, and it travels to the pages only.
const tokenCookie = "millrace_token"

// keptFor is how long a browser stays signed in, in seconds. A token that is revoked ends it at once.
const keptFor = 30 * 24 * 3600

const maxToken = 1000

// authorize lets in who has a token, in the header as everywhere or in the cookie.
func (u *UI) authorize(c *gin.Context, wanted route.Access) (any, error) {
	token := cookieToken(c.Request)
	if c.GetHeader("Authorization") != "" || token == "" {
		return u.Authorize(c, wanted)
	}
	c.Request.Header.Set("Authorization", "Bearer "+token)
	principal, err := u.Authorize(c, wanted)
	if isUnauthorized(err) { // whoever needs no token is let in without
		u.forget(c)
		return u.Authorize(c, wanted)
	}
	return principal, err
}

func isUnauthorized(err error) bool {
	refusal, ok := errors.AsType[*route.Error](err)
	return ok && refusal.Status == http.StatusUnauthorized
}

// forget drops a token that is worth nothing any more.
func (u *UI) forget(c *gin.Context) {
	c.Request.Header.Del("Authorization")
	c.Request.Header.Del("Cookie")
	u.setCookie(c, "", -1)
}

// visitor is how a page shows who looks at it: the token's name, else where the way to sign in leads.
type visitor struct{ Name, Next string }

// signedIn gives the name of the visitor's token; "" for nobody. Where a page is for everybody, or refused, its route does
// not know.
func (u *UI) signedIn(c *gin.Context) string {
	if bearer, known := route.Principal[access.Bearer](c); known {
		return bearer.Name
	}
	token := cookieToken(c.Request)
	if token == "" {
		return ""
	}
	c.Request.Header.Set("Authorization", "Bearer "+token)
	principal, err := u.Authorize(c, route.TokenViewer)
	if isUnauthorized(err) {
		u.forget(c)
	}
	bearer, _ := principal.(access.Bearer)
	return bearer.Name
}

// nextKey keeps, with a request, the page that is wanted after signing in.
const nextKey = "next"

// wanted is the page to lead to after signing in.
func wanted(c *gin.Context) string {
	if next := c.GetString(nextKey); next != "" {
		return next
	}
	if c.Request.Method == http.MethodPost {
		return "/ui"
	}
	return inside(c.Request.URL.RequestURI())
}

func cookieToken(r *http.Request) string {
	cookie, err := r.Cookie(tokenCookie)
	if err != nil || len(cookie.Value) > 2*maxToken {
		return ""
	}
	token, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return ""
	}
	return string(token)
}

func (u *UI) setCookie(c *gin.Context, token string, seconds int) {
	for _, path := range []string{"/ui", "/docs"} {
		http.SetCookie(c.Writer, &http.Cookie{
			Name: tokenCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(token)), Path: path, MaxAge: seconds,
			HttpOnly: true, Secure: u.Secure(c.Request), SameSite: http.SameSiteStrictMode,
		})
	}
}

// refusal is what the error page shows.
type refusal struct {
	Status  int
	Name    string
	Message string
	// SignIn offers the form, and Next is where it leads.
	SignIn bool
	Next   string
}

// refuse shows a refusal as a page.
func (u *UI) refuse(c *gin.Context, e *route.Error) {
	shown := refusal{Status: e.Status, Name: http.StatusText(e.Status), Message: sentence(e.Message), Next: wanted(c)}
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
		shown.SignIn = true
		if c.GetHeader("Authorization") == "" && c.Request.Method != http.MethodPost {
			shown.Message = "This page is for people with a token."
		}
	}
	body, err := u.render("error", view{Title: shown.Name, Data: shown})
	if err == nil {
		err = u.send(c, e.Status, body)
	}
	if err != nil {
		route.Fail(c, e.Status, e.Message)
	}
}

// sentence makes one of an error's text.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	text = string(unicode.ToUpper(first)) + text[size:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// signInPage gives the form to those whom nothing has refused.
func (u *UI) signInPage() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: "/ui/sign-in", Side: route.Query, API: API, Access: route.Anyone,
		Summary: "Show the form to sign in", Params: []route.Param{{Name: "next", MaxLength: 8 << 10, Description: "The page to lead to then."}},
		Answers: []route.Answer{{Status: 200, Body: "", ContentType: "text/html", Description: "The form."}},
		Handler: func(c *gin.Context) {
			next, err := route.Text(c, "next")
			c.Set(nextKey, inside(next))
			var body []byte
			if err == nil {
				body, err = u.render("error", view{Title: "Sign in", Data: refusal{SignIn: true, Next: wanted(c),
					Message: "People with a token see what was submitted and private jobs, and get the files that jobs left."}})
			}
			if err == nil {
				err = u.send(c, http.StatusOK, body)
			}
			if err != nil {
				route.Refuse(c, err)
			}
		},
	}
}

func (u *UI) signInRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/ui/sign-in", Side: route.Query, API: API, Access: route.Anyone,
		Summary: "Keep a token in the browser", Body: "", BodyLimit: 8 << 10, ContentTypes: []string{"application/x-www-form-urlencoded"},
		Answers: []route.Answer{
			{Status: 303, Description: "The token is kept; on to the page that was wanted."},
			{Status: 401, Body: "", ContentType: "text/html", Description: "The token is not known."},
			{Status: 403, Body: "", ContentType: "text/html", Description: "The form was sent from another site."},
		},
		Handler: func(c *gin.Context) {
			if err := u.signIn(c); err != nil {
				route.Refuse(c, err)
			}
		},
	}
}

func (u *UI) signIn(c *gin.Context) error {
	if err := sameOrigin(c.Request); err != nil {
		return err
	}
	body, err := route.ReadBody(c)
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return route.Errorf(http.StatusBadRequest, "the form cannot be read: %v", err)
	}
	next := inside(form.Get("next"))
	c.Set(nextKey, next) // the form that a refusal shows leads there too
	token := strings.TrimSpace(form.Get("token"))
	if token == "" || len(token) > maxToken {
		return route.Errorf(http.StatusUnauthorized, "that is no token: millrace admin token add prints one")
	}
	c.Request.Header.Set("Authorization", "Bearer "+token)
	if _, err := u.Authorize(c, route.TokenViewer); err != nil {
		return err
	}
	u.setCookie(c, token, keptFor)
	c.Redirect(http.StatusSeeOther, next)
	return nil
}

func (u *UI) signOutRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/ui/sign-out", Side: route.Query, API: API, Access: route.Anyone,
		Summary: "Forget the token that the browser keeps",
		Answers: []route.Answer{{Status: 303, Description: "It is forgotten."}, {Status: 403, Body: "", ContentType: "text/html", Description: "The form was sent from another site."}},
		Handler: func(c *gin.Context) {
			if err := sameOrigin(c.Request); err != nil {
				route.Refuse(c, err)
				return
			}
			u.setCookie(c, "", -1)
			c.Redirect(http.StatusSeeOther, "/ui")
		},
	}
}

func sameOrigin(r *http.Request) error {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return route.Errorf(http.StatusForbidden, "the form was sent from another site")
	}
	return nil
}

// inside keeps a path that leads to a page of ours.
func inside(next string) string {
	target, err := url.Parse(next)
	if err != nil || target.IsAbs() || target.Host != "" || target.Path != "/ui" && target.Path != "/docs" && !strings.HasPrefix(target.Path, "/ui/") || strings.Contains(next, `\`) {
		return "/ui"
	}
	return target.RequestURI()
}
