import { mount } from "svelte";
import App from "./App.svelte";
import "./tokens.css";
import "./dark.css";
import "./base.css";
import { words } from "./words/words.svelte";

await words.begin();
mount(App, { target: document.getElementById("page")! });
