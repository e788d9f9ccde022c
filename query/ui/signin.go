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

	"github.com/millrace/millrace/schemas/route"
)

// tokenCookie holds the token of a browser that has signed in. Scripts cannot read it, and it travels to the pages only.
const tokenCookie = "millrace_token"

// keptFor is how long a browser stays signed in, in seconds. A token that is revoked ends it at once.
const keptFor = 30 * 24 * 3600

const maxToken = 1000

// authorize lets in who has a token, in the header as everywhere or in the cookie.
func (u *UI) authorize(c *gin.Context, access route.Access) (any, error) {
	token := cookieToken(c.Request)
	if c.GetHeader("Authorization") != "" || token == "" {
		return u.Authorize(c, access)
	}
	c.Request.Header.Set("Authorization", "Bearer "+token)
	principal, err := u.Authorize(c, access)
	if refusal, ok := errors.AsType[*route.Error](err); ok && refusal.Status == http.StatusUnauthorized {
		// The token is worth nothing any more; whoever needs none is let in without.
		c.Request.Header.Del("Authorization")
		u.setCookie(c, "", -1)
		return u.Authorize(c, access)
	}
	return principal, err
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
	http.SetCookie(c.Writer, &http.Cookie{
		Name: tokenCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(token)), Path: "/ui", MaxAge: seconds,
		HttpOnly: true, Secure: u.Secure(c.Request), SameSite: http.SameSiteStrictMode,
	})
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
	shown := refusal{Status: e.Status, Name: http.StatusText(e.Status), Message: sentence(e.Message), Next: "/ui"}
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
		shown.SignIn = true
		if c.GetHeader("Authorization") == "" {
			shown.Message = "This page is for people with a token."
		}
		if c.Request.Method == http.MethodGet {
			shown.Next = c.Request.URL.RequestURI()
		}
	}
	body, err := u.render("error", view{Title: shown.Name, Data: shown})
	if err != nil {
		route.Fail(c, e.Status, e.Message)
		return
	}
	send(c, e.Status, body)
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
	token := strings.TrimSpace(form.Get("token"))
	if token == "" || len(token) > maxToken {
		return route.Errorf(http.StatusUnauthorized, "that is no token: millrace admin token add prints one")
	}
	c.Request.Header.Set("Authorization", "Bearer "+token)
	if _, err := u.Authorize(c, route.TokenViewer); err != nil {
		return err
	}
	u.setCookie(c, token, keptFor)
	c.Redirect(http.StatusSeeOther, inside(form.Get("next")))
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
	if err != nil || target.IsAbs() || target.Host != "" || target.Path != "/ui" && !strings.HasPrefix(target.Path, "/ui/") || strings.Contains(next, `\`) {
		return "/ui"
	}
	return target.RequestURI()
}
