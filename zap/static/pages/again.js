// Load the page again while zap computes what it shows. Without this script, the button of the page does the same.
setTimeout(() => location.reload(), 1000);
