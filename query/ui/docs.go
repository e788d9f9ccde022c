package ui

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

// docsRoute gives the page that shows /openapi.json. What it describes is no secret.
func (u *UI) docsRoute() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: "/docs", Side: route.Query, API: API, Access: route.Anyone, Slash: true,
		Summary: "Show the description of every API",
		Answers: []route.Answer{{Status: 200, Body: "", ContentType: "text/html", Description: "The page."}},
		Handler: func(c *gin.Context) {
			body, err := u.render("docs", view{Title: "API", Tab: "docs"})
			if err == nil {
				err = u.send(c, http.StatusOK, body)
			}
			if err != nil {
				route.Refuse(c, err)
			}
		},
	}
}
