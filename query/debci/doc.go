package debci

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/schemas/route"
)

//go:embed doc.html
var docPage string

// doc answers GET /api/doc.
func (d *Debci) doc(c *gin.Context) {
	run := c.Query("run_id")
	if run == "" {
		run = "RUN_ID"
	}
	var page bytes.Buffer
	err := d.page.Execute(&page, struct {
		debci.Rules
		Run string
	}{d.Rules, run})
	if err != nil {
		route.Refuse(c, fmt.Errorf("write the API's description: %w", err))
		return
	}
	c.Data(http.StatusOK, "text/html;charset=utf-8", page.Bytes())
}
