"use strict";

// With --dev the page knows the token of the dev account; otherwise "Authorize" asks for one.
const token = document.body.dataset.token;
const ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#explorer",
    deepLinking: true,
    displayRequestDuration: true,
    filter: true,
    tryItOutEnabled: true,
    // Nothing is sent to a validator elsewhere.
    validatorUrl: null,
    onComplete: () => {
        if (token) {
            ui.preauthorizeApiKey("X-Auth-Token", token);
        }
    },
});
