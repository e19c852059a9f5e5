// What a page sends says which organization the page was made for. A file, and not in the page: the
// forms' answers are written into the page's place, where the policy knows no nonce of theirs.
(function () {
  const organization = document.currentScript.dataset.organization;
  $(document).ajaxSend(function (event, xhr) {
    xhr.setRequestHeader("X-Organization", organization);
  });
})();
