SwaggerUIBundle({
  // Beside this file's folder, whatever prefix a proxy shows it under. Whole, because the link to the manual is read
  // relative to it.
  url: new URL("../openapi.json", document.currentScript.src).href,
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
