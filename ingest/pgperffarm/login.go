package pgperffarm

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

const plainText = "text/plain; charset=utf-8"

const (
	// sessionAge is how long a login lasts (contract 3.2).
	sessionAge = 14 * 24 * time.Hour
	// forgeryAge is how long the CSRF token lasts (contract 3.2).
	forgeryAge = 364 * 24 * time.Hour
	// callbackMargin is how much longer than necessary a used callback is remembered, since the clocks of the doors and
	// of the log differ.
	callbackMargin = 15 * time.Minute
)

// noLogin is the answer while nobody can sign in.
func noLogin() *route.Error {
	return route.Errorf(http.StatusServiceUnavailable,
		"the community login is not set up here: the operator sets pgperffarm.login_url, auth_key and auth_version")
}

// communityLogin sends the browser to pgweb. A target on another site is dropped: the login goes on without it (W3).
func (f *Farm) communityLogin(c *gin.Context) {
	if f.login == nil {
		route.Refuse(c, noLogin())
		return
	}
	blob := ""
	if next := c.Query("next"); next != "" {
		sealed, err := f.login.SealTarget(sameSite(c.Request, next), f.Now())
		if err != nil {
			f.Logger.InfoContext(c.Request.Context(), "a login target was dropped", "error", err)
		} else {
			blob = sealed
		}
	}
	c.Redirect(http.StatusFound, f.login.LoginURL(blob))
}

// sameSite cuts an address of this very site down to its path.
func sameSite(r *http.Request, next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Host == "" || u.Host != r.Host || u.Scheme != "http" && u.Scheme != "https" {
		return next
	}
	return u.RequestURI()
}

// authReceive is the callback from pgweb.
func (f *Farm) authReceive(c *gin.Context) {
	query := c.Request.URL.Query()
	if query.Get("s") == "logout" {
		c.Redirect(http.StatusFound, "/")
		return
	}
	if f.login == nil {
		route.Refuse(c, noLogin())
		return
	}
	user, err := f.login.Decrypt(query, f.Now())
	if err != nil {
		f.refuseCallback(c, err)
		return
	}
	if c.Request.Method == http.MethodHead {
		c.Redirect(http.StatusFound, f.target(user)) // who only looks must not use the callback up
		return
	}
	f.signIn(c, user)
}

func (f *Farm) refuseCallback(c *gin.Context, err error) {
	var refused *pgweb.CallbackError
	if !errors.As(err, &refused) {
		route.Refuse(c, err)
		return
	}
	f.Logger.InfoContext(c.Request.Context(), "a login callback was refused", "error", err)
	text(c, http.StatusBadRequest, refused.Body)
}

func text(c *gin.Context, status int, body string) {
	c.Abort()
	c.Data(status, plainText, []byte(body))
}

// signIn has the log open the session, and answers with its cookies.
func (f *Farm) signIn(c *gin.Context, user pgweb.User) {
	session := randomHex(32)
	request, err := f.signInRequest(user, session)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	outcome, position, err := door.Decide(c.Request.Context(), f.Log, f.Registry, source, request)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	door.SetPosition(c, position)
	switch outcome.Result {
	case registry.Done:
		f.setCookies(c, session)
		c.Redirect(http.StatusFound, f.target(user))
	case registry.CallbackUsed:
		text(c, http.StatusBadRequest, "This login was used before. Go to "+loginPath+" to sign in again.")
	case registry.EmailTaken:
		text(c, http.StatusConflict, "Another user here has the e-mail address of your community account. "+
			"Change it in one of the two accounts, or ask the operator of this site.")
	default:
		route.Refuse(c, unexpected("sign in", outcome))
	}
}

const loginPath = "/user/community_login"

func (f *Farm) signInRequest(user pgweb.User, session string) (*event.FarmSignInRequested, error) {
	name := access.HashUser(f.Keyring, user.Username)
	email := access.HashEmail(f.Keyring, user.Email)
	profile, err := access.SealProfile(f.Keyring, name, &event.FarmProfile{
		Username: user.Username, FirstName: user.First, LastName: user.Last, Email: user.Email,
	})
	if err != nil {
		return nil, err
	}
	hash := access.HashSession(f.Keyring, session)
	return &event.FarmSignInRequested{
		User:            &event.FarmUser{NameHash: name[:], EmailHash: email[:], SealedProfile: profile},
		CallbackHash:    user.Callback[:],
		CallbackExpires: user.Expires().Add(callbackMargin).Unix(),
		SessionHash:     hash[:],
		SessionExpires:  f.Now().Add(sessionAge).Unix(),
		Staff:           slices.Contains(f.config.Staff, user.Username),
	}, nil
}

// target is where to go after a login.
func (f *Farm) target(user pgweb.User) string {
	if user.Data == "" {
		return f.config.AfterLogin
	}
	next, err := f.login.OpenTarget(user.Data, f.Now())
	if err != nil {
		return f.config.AfterLogin
	}
	return next
}

func (f *Farm) setCookies(c *gin.Context, session string) {
	secure := f.config.Proxies.Secure(c.Request)
	http.SetCookie(c.Writer, sessionCookie(session, int(sessionAge/time.Second), secure))
	http.SetCookie(c.Writer, forgeryCookie(randomHex(16), secure))
}

// sessionCookie is the contract's (3.2); a negative age deletes it.
func sessionCookie(value string, age int, secure bool) *http.Cookie {
	return &http.Cookie{
		Name: access.SessionCookie, Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	}
}

// forgeryCookie is readable by scripts, which echo it.
func forgeryCookie(value string, secure bool) *http.Cookie {
	return &http.Cookie{
		Name: access.ForgeryCookie, Value: value, Path: "/", MaxAge: int(forgeryAge / time.Second),
		Secure: secure, SameSite: http.SameSiteLaxMode,
	}
}

// logout ends the session, if there is one, and sends the browser on to pgweb's logout.
func (f *Farm) logout(c *gin.Context) {
	if c.Request.Method != http.MethodHead {
		if err := f.endSession(c); err != nil {
			route.Refuse(c, err)
			return
		}
	}
	next := "/"
	if f.login != nil {
		next = f.login.LogoutURL()
	}
	c.Redirect(http.StatusFound, next)
}

func (f *Farm) endSession(c *gin.Context) error {
	cookie, err := c.Request.Cookie(access.SessionCookie)
	if err != nil || cookie.Value == "" {
		return nil
	}
	hash := access.HashSession(f.Keyring, cookie.Value)
	open, err := f.isOpen(c, hash)
	if err != nil {
		return err
	}
	if open {
		_, position, err := door.Decide(c.Request.Context(), f.Log, f.Registry, source, &event.FarmSessionEnded{SessionHash: hash[:]})
		if err != nil {
			return err
		}
		door.SetPosition(c, position)
	}
	http.SetCookie(c.Writer, sessionCookie("", -1, f.config.Proxies.Secure(c.Request)))
	return nil
}

// isOpen tells whether the log knows the session, so that nobody fills the log with sessions that never were.
func (f *Farm) isOpen(c *gin.Context, hash registry.Hash) (open bool, err error) {
	look := func(s *registry.State) { open = s.Session(hash, f.Now()) != nil }
	if f.Registry.View(look); open {
		return true, nil
	}
	if err := f.Registry.CatchUp(c.Request.Context()); err != nil {
		return false, door.Refusal(errors.Join(eventlog.ErrUnsettled, err))
	}
	f.Registry.View(look)
	return open, nil
}

func randomHex(bytes int) string {
	random := make([]byte, bytes)
	rand.Read(random) // never fails, see crypto/rand
	return hex.EncodeToString(random)
}
